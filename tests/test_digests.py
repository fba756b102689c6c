"""Digests that appear in files. Each value here was written by an earlier version and must stay the same."""

from types import SimpleNamespace

import pytest

from steer_lit.bench.manifest import Manifest
from steer_lit.bench.raw_eval import _folder_name
from steer_lit.digests import digest
from steer_lit.prompts.fill import Prompt
from steer_lit.synthesis.run import _key
from steer_lit.types import Attack, ImageRef, Message, Scenario

ROW = Scenario("row-1", "red_team", Attack(Message.of("user", "Look: ä\udcff", ImageRef("mini://red/ball"))), ())


@pytest.mark.parametrize(
    ("text", "length", "value"),
    [("", 12, "e3b0c44298fc"), ("abc", 10, "ba7816bf8f"), ("ä", 16, "33e6d73fee82904c"), ("a\udcff", 8, "5289f1df")],
)
def test_a_digest_is_the_start_of_the_sha_256(text: str, length: int, value: str) -> None:
    assert digest(text, length) == value


def test_digests_of_earlier_versions_are_unchanged() -> None:
    shown = Manifest({"judge": "j", "seed": 1, "attacker": "a"}, {}, {"row-1": "c"}, "rubric", {})
    assert shown.keys("base") == {"row-1": "81e413b8aa4a1d5a"}
    assert _key(SimpleNamespace(identity={"b": 1, "a": "x"}), ("rules", 4), ROW, [], None) == "5e5f165f5952eb8c7fcdc286"  # type: ignore[arg-type]
    assert Prompt("n", "Some text, ä.").digest == "6845ca947112"
    assert _folder_name("x" * 300).endswith("x-0d4e2ca9e9cb")
    assert _folder_name("é\udcff" * 200).endswith("-3fbac5a39507")
