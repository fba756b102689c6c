"""Says which class of the user's own raised an error, by the key that names it in the config."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from itertools import product
from traceback import TracebackException
from types import FrameType, TracebackType
from typing import Any

from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from steer_lit.dotted import leaves, within
from steer_lit.errors import SteerError
from steer_lit.files.atomic import FULL

_NOT_OWN = ("steer_lit.", "lightning.")  # how the names of classes begin that are not the user's


@contextmanager
def naming_own(config: DictConfig) -> Iterator[None]:
    """Raise SteerError for what a class of the user's own raised, with the key that names the class in `config` and the
    lines from its first one on: those above are Hydra's, Lightning's and ours.
    """
    try:
        yield
    except Exception as error:
        if not (said := _raised_by_own(error, config)):
            raise
        told = SteerError(said)
        told.__notes__ = getattr(error, "__notes__", [])  # how to go on
        raise told from error


def _raised_by_own(error: BaseException, config: DictConfig) -> str:
    error = error.__cause__ or error if isinstance(error, InstantiationException) else error
    if isinstance(error, SteerError) or (isinstance(error, OSError) and error.errno in FULL):
        return ""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    named = {key: str(value) for key, value in leaves(plain) if key.endswith("._target_")}
    repeated = [key for key in named if within(key, "module") and key != "module._target_"]
    own = {key: _loaded(name) for key, name in named.items() if not name.startswith(_NOT_OWN) and key not in repeated}
    lines, left = list[TracebackType](), error.__traceback__
    while left is not None:
        if not left.tb_frame.f_globals.get("__name__", "").startswith(_NOT_OWN):
            lines.append(left)
        left = left.tb_next
    for belongs in (_is_of, _is_beside):  # the first is surer: a module may hold several
        for line, (key, made) in product(lines, own.items()):
            if belongs(line.tb_frame, made):
                told = TracebackException(type(error), error, line)  # and those below it
                told.__notes__ = None  # printed once, below
                return f"{key}={named[key]} raised {type(error).__name__}\n{''.join(told.format()).strip()}"
    return ""


def _loaded(name: str) -> object:
    """Return the class or function of this name, of a `from_config` its class; None if it was never imported."""
    module, _, rest = name.rpartition(".")
    while module and module not in sys.modules:
        module, _, outer = module.rpartition(".")
        rest = f"{outer}.{rest}"
    found = reduce(lambda made, part: getattr(made, part, None), rest.split("."), sys.modules.get(module))
    return getattr(found, "__self__", found)


def _is_of(frame: FrameType, made: object) -> bool:
    return isinstance(made, type) and isinstance(frame.f_locals.get("self"), made)


def _is_beside(frame: FrameType, made: object) -> bool:
    """Return whether a line is in the module of a class or function, such as one that makes a generator of others."""
    return frame.f_globals.get("__name__") == getattr(made, "__module__", None)
