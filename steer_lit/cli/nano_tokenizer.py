"""The tokenizer that a fresh `nano` begins with, learnt from the primer as it is.

    python -m steer_lit.cli.nano_tokenizer steer_lit/policy/weights/nano

That folder is where `model.weights=null` reads it, so this comes first where the primer has changed, and
`+experiment=pretrain_nano` after it. Weights of before were made for another.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from steer_lit.data.mini_primer import primer_row
from steer_lit.policy.fresh import learn_tokenizer
from steer_lit.policy.nano import TEXT_CONFIG, TOKENS
from steer_lit.terminal.conf_files import conf_dir

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ROWS = 4_000
_REPEATS = 100  # of the text around every row, so that few tokens encode it


def nano_tokenizer() -> PreTrainedTokenizerBase:
    return learn_tokenizer(_lines(), TOKENS, TEXT_CONFIG["max_position_embeddings"])


def _lines() -> Iterator[str]:
    """Yield the primer's texts, and the text that a renderer puts around them."""
    for number in range(_ROWS):
        yield from (message.text for message in primer_row(0, number).messages)
    prompt = OmegaConf.load(conf_dir() / "system_prompt.yaml").system_prompt
    for text in ("system", "user", "assistant", prompt):
        yield from [text] * _REPEATS


if __name__ == "__main__":
    (folder,) = sys.argv[1:]
    nano_tokenizer().save_pretrained(folder)
