"""Names the folders of a sweep's runs after the values swept over, such as `0_reward.alpha-0.3_seed-1`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from omegaconf import OmegaConf

from steer_lit.terminal.words import Word

_LONGEST = 150  # letters of a folder's name: file systems allow 255 bytes


def name_sweeps_folders(words: Sequence[str]) -> None:
    """Let `${swept:...}` in conf/hydra/default.yaml name the folders by what `words` sweep over.

    In processes started by a launcher `words` are unknown: their folders are named by number only.
    """
    OmegaConf.register_new_resolver("swept", partial(_swept, list(words)), replace=True)


def _swept(words: Sequence[str], of_run: Sequence[str]) -> str:
    """Return a run's values of the keys that `words` sweep over, such as `_reward.alpha-0.3_seed-1`.

    The text follows the number in the folder's name. Values that a shell or Hydra would need quoted are left out, and
    so are parts that make the name too long.
    """
    fixed = {word.key for word in map(Word.read, words) if word is not None and not word.several}
    name = ""
    for word in map(Word.read, of_run if words else []):
        if word is None or word.sign == "~" or word.key in fixed:
            continue
        part = f"_{word.key}-{word.given}"
        if re.fullmatch(r"[\w.+-]+", part, re.ASCII) and len(name + part) <= _LONGEST:
            name += part
    return name


name_sweeps_folders([])
