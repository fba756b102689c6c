"""Prompt files, filled in one pass, and the fence around untrusted text.

A prompt is a text file beside this one, with `{{field}}` marks to fill. Text of a policy, an attacker or a data row
goes in only through `fence`, which starts every line with a bar: no text can end its own fence, open another one, or
pass for a line of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from steer_lit.digests import digest
from steer_lit.texts import encodable

FOLDER = Path(__file__).parent
ASKING = ("attacker", "judge", "tutor")  # their prompts may be replaced: <name>_system.txt and <name>_user.txt
BAR = "| "

_FIELD = re.compile(r"\{\{(\w+)\}\}")
# Servers turn special tokens typed as text into real ones: <|im_start|>, <｜User｜>, </s>, <turn|>, [INST], ]~b].
_MINIMAX = r"\](?=~!?b[\[\]]|<\])|\[(?=e~\[|>\[)"
_SPECIAL = re.compile(rf"<(?=[|｜/!\w])|\[(?=/?g?[A-Z_]+\])|{_MINIMAX}")
# The same marks if they are closed or begin with a bar. The tags of the policy's own format are left as they are.
_TEMPLATE = re.compile(
    rf"<(?=[|｜]|/?(?!(?:thinking|answer)>)(?:s|[\w:-]{{2,}}\|?)>)|\[(?=/?g?[A-Z_]{{3,}}\])|{_MINIMAX}"
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text of a prompt file, with `{{field}}` marks to fill."""

    name: str
    text: str

    @classmethod
    def load(cls, name: str, own: str | None = None) -> Prompt:
        """Read `<own>/<name>.txt` if that is a file, otherwise `steer_lit/prompts/<name>.txt`. Raises ValueError if
        there is none.
        """
        if own is not None and (replaced := Path(own, f"{name}.txt")).is_file():
            return cls(name, replaced.read_text(encoding="utf-8").strip())
        path = FOLDER / f"{name}.txt"
        if path.parent != FOLDER or not path.is_file():
            known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.txt")))
            raise ValueError(f"no prompt {name!r}; there are {known}")
        return cls(name, path.read_text(encoding="utf-8").strip())

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(_FIELD.findall(self.text))

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with the text."""
        return digest(self.text, 12)

    def fill(self, **values: str) -> str:
        """Return the text with every field replaced, in one pass: a mark inside a value stays as it is.

        Raises ValueError for fields that the prompt lacks, and for its fields that were not given.
        """
        unknown, missing = sorted(set(values) - self.fields), sorted(self.fields - set(values))
        if unknown or missing:
            raise ValueError(f"prompt {self.name!r}: unknown fields {unknown}, missing fields {missing}")
        return _FIELD.sub(lambda mark: values[mark[1]], self.text)


def own_problem(player: str, own: str) -> str | None:
    """Return why the prompts in the folder `own` cannot replace those of the `player`, one of ASKING, or None."""
    if not Path(own).is_dir():
        return "no such folder: name one with prompt files of your own"
    names = [f"{player}_system", f"{player}_user"]
    known = {f"{each}_{part}" for each in ASKING for part in ("system", "user")}
    found = {file.stem for file in Path(own).glob("*.txt")}
    if unknown := sorted(found - known):
        return f"holds {unknown[0]}.txt, which replaces no prompt: there are {', '.join(sorted(known))}"
    if not found.intersection(names):
        return f"holds neither {names[0]}.txt nor {names[1]}.txt: copy one from {FOLDER} and change it"
    for name in sorted(found.intersection(names)):
        try:
            prompt, fields = Prompt.load(name, own), Prompt.load(name).fields
        except (OSError, ValueError) as error:
            return f"{name}.txt cannot be read: {error}"
        marks = ", ".join(f"{{{{{field}}}}}" for field in sorted(fields)) or "none"
        if not prompt.text or prompt.fields != fields:
            return f"{name}.txt must hold text with exactly these fields to fill: {marks}"
        if any(line.startswith(BAR) for line in prompt.text.splitlines()):
            return f"{name}.txt has a line that begins with {BAR!r}, which marks the dialogue's own text: indent it"
    return None


def digests(own: Mapping[str, str]) -> dict[str, str]:
    """Return every prompt's digest by name, for a run's record: a word of the tutor's changes every verdict.

    `own` are the folders whose prompts replace those of a player, by the player's name.
    """
    names = sorted(file.stem for file in FOLDER.glob("*.txt"))
    return {name: Prompt.load(name, own.get(name.partition("_")[0])).digest for name in names}


def fence(text: str) -> str:
    """Return the text as data: a bar before every line, whatever character ends it, and no special token left whole.

    Characters that no server can take (control characters, lone surrogates) become U+FFFD and `?`.
    """
    plain = _SPECIAL.sub(lambda mark: f"{mark[0]} ", writable(text))
    return "\n".join(f"{BAR}{line}" for line in plain.splitlines() or [""])


def as_data(text: str) -> str:
    """Return the text as a message of its own: no template mark left whole (TRAPS 14), no half surrogate pair.

    A blank goes after the opening bracket of `<|`, of `<name>`, `</name>` and `<name|>`, of `[NAME]` and `[/NAME]` with
    three or more capitals, and of MiniMax's marks. So `<br>`, `list<int>` and `[NOTE]` get one too. Left as they are:
    `<thinking>` and `<answer>` with their end tags, tags of one letter except `<s>`, tags with attributes, and code or
    maths such as `a[i] < b`, `x<y` and `[1]`.
    """
    return _TEMPLATE.sub(lambda mark: f"{mark[0]} ", encodable(text))


def writable(text: str) -> str:
    """Return the text with the characters that no server can take replaced, as in `fence`."""
    return _CONTROL.sub("\ufffd", encodable(text))
