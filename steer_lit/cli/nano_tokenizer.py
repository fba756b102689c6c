"""The tokenizer that a fresh `nano` begins with, learnt from the primer as it is.

    python -m steer_lit.cli.nano_tokenizer steer_lit/policy/weights/nano

That folder is where `model.weights=null` reads it, so this comes first where the primer has changed, and
`+experiment=pretrain_nano` after it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from steer_lit.data.mini_primer import primer_row
from steer_lit.files.atomic import replace_folder
from steer_lit.policy.fresh import learn_tokenizer
from steer_lit.policy.nano import TEXT_CONFIG, TOKENS
from steer_lit.terminal.commands import command, next_step
from steer_lit.terminal.conf_files import conf_dir
from steer_lit.terminal.stdout import carried_out, printing
from steer_lit.terminal.visible import visible_line

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


def main(arguments: Sequence[str]) -> int:
    """Return the exit code."""
    summary = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser("python -m steer_lit.cli.nano_tokenizer", description=summary)
    parser.add_argument("folder", type=Path, help="an earlier tokenizer in it is replaced")
    return carried_out(parser, arguments, _write)


def _write(given: argparse.Namespace) -> int:
    folder: Path = given.folder
    folder.mkdir(parents=True, exist_ok=True)  # if this fails, it fails before anything is learnt
    replace_folder(folder, nano_tokenizer().save_pretrained)
    print(visible_line(f"tokenizer: {folder}; weights of before were made for another"))
    print(next_step(command("train", "+experiment=pretrain_nano")))
    return 0


if __name__ == "__main__":
    sys.exit(printing(partial(main, sys.argv[1:])))
