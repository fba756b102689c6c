"""The report as one HTML page: its content, and that nothing in it can be executed."""

import base64
import hashlib
import html as markup
import io
import json
import re
import shutil
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from steer_lit.bench import charts, html, outputs, page_dialogues
from steer_lit.bench.page_dialogues import ShownDialogue, ShownTurn
from steer_lit.bench.records import GradedDialogue
from steer_lit.bench.summary import summarise
from steer_lit.data.images import open_image
from steer_lit.terminal.visible import visible
from steer_lit.types import ImageRef
from tests.bench.unpacked import unpacked
from tests.settings import bench_settings

SETTINGS = bench_settings(resamples=100)
KNIFE = "mini://knife?colour=red&x=1&y=1&size=50&bg=0"
BALL = "mini://ball?colour=blue&x=1&y=1&size=50&bg=0"
HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "\u202e turned \u2028 half a pair \ud83d, &amp; '\"`"
)
MakeDialogue = Callable[..., GradedDialogue]


def shown_turn(text: str, pictures: tuple[str, ...] = ()) -> ShownTurn:
    return ShownTurn(f"user {text}", text, (("harmless", text),), about=text, verdict=text, pictures=pictures)


def shown_dialogue(
    scenario: str = "a", policy: str = "sft", pictures: tuple[str, ...] = (), **other: Any
) -> ShownDialogue:
    turns = (shown_turn("3", pictures),)
    shown = ShownDialogue(policy, scenario, "benign", "s", page_dialogues.PASS, "6", "terminated", turns)
    return replace(shown, **other)


def written(path: Path, dialogues: list[ShownDialogue], **more: object) -> str:
    html.write_page(path, "Report", [("judge", HOSTILE)], dialogues, open_image, **more)
    return path.read_text(encoding="utf-8")


def packed_parts(page: str) -> dict[str, object]:
    """Return everything that the browser unpacks, by the id of its element."""
    found = re.findall(r'<script type="text/plain" id="((?:block|index)[-\d]*)">([^<]*)</script>', page)
    return {name: unpacked(text) for name, text in found}


def test_texts_in_the_page_are_unchanged_but_for_characters_that_a_browser_would_obey(tmp_path: Path) -> None:
    names = {"kind": HOSTILE, "subset": HOSTILE, "outcome": page_dialogues.UNGRADED, "note": HOSTILE}
    hostile = shown_dialogue(HOSTILE, HOSTILE, **names, tones="-", turns=(shown_turn(HOSTILE),))
    page = written(tmp_path / "report.html", [hostile])
    parts = packed_parts(page)
    assert parts["index"]["rows"] == [[0, 0, 0, 0, visible(HOSTILE), "-"]]
    assert parts["index"]["labels"]["policy"] == [visible(HOSTILE)]
    (dialogue,) = parts["block-0"]
    assert dialogue["note"] == visible(HOSTILE)
    said = {dialogue["turns"][0][key].removeprefix("user ") for key in ("user", "assistant", "about", "verdict")}
    assert said == {visible(HOSTILE)}


def test_marks_of_direction_and_controls_in_names_and_texts_are_seen(dialogue: MakeDialogue, tmp_path: Path) -> None:
    """Written as they are, they would turn the text beside them around, or not be seen at all."""
    name = "pass\u202e\x1b\x07"
    row = replace(dialogue("a", [3, -3], subset=name, kind=name), scenario=name, category=name, graded_by=(name, "b"))
    row = replace(row, turns=tuple(replace(turn, user=name, assistant=name, rationale=name) for turn in row.turns))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # of U+FFFD, which a chart's font may lack
        outputs.write_outputs({name: [row], "b": [row]}, SETTINGS, name, tmp_path, open_image, [("model", name)])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    texts = [page, json.dumps(packed_parts(page), ensure_ascii=False)]
    for text in (*texts, *((tmp_path / f"summary.{kind}").read_text(encoding="utf-8") for kind in ("md", "csv"))):
        assert "pass\N{REPLACEMENT CHARACTER}" in text
        assert not re.search(r"\u202e|\x1b|\x07|\\u001b", text)


def test_texts_of_a_model_are_escaped(tmp_path: Path) -> None:
    page = written(tmp_path / "report.html", [shown_dialogue(HOSTILE)])
    assert 'onerror="document' not in page
    assert "<img" not in page
    assert page.count("<script>") == 1  # the page's own
    assert markup.escape("</script><script>document") in page  # the fact below the title


def test_the_page_fetches_nothing_and_runs_only_its_own_script(tmp_path: Path) -> None:
    page = written(tmp_path / "report.html", [shown_dialogue(pictures=(KNIFE,))])
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    script = re.search(r"<script>(.*?)</script>", page, flags=re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert markup.unescape(policy) == (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w", page.split("<style>")[0])
    assert not re.findall(
        r"<(?:link|iframe|object|embed|base)\b|@import|url\(|\bfetch\(|XMLHttpRequest|<\w+[^>]*\bsrc=", page
    )


def test_dialogues_are_stored_in_blocks_with_an_index(tmp_path: Path) -> None:
    dialogues = [shown_dialogue(f"s{number}") for number in range(2 * html.BLOCK + 1)]
    parts = packed_parts(written(tmp_path / "report.html", dialogues))
    assert [name for name in parts if name != "index"] == ["block-0", "block-1", "block-2"]
    assert [len(parts[f"block-{number}"]) for number in range(3)] == [html.BLOCK, html.BLOCK, 1]
    assert parts["index"]["block"] == html.BLOCK
    assert parts["index"]["rows"][-1][4] == f"s{2 * html.BLOCK}"


def test_a_scenarios_dialogues_are_adjacent() -> None:
    rows = [shown_dialogue(scenario, policy) for policy in ("sft", "grpo") for scenario in ("a", "b")]
    assert [(row.scenario, row.policy) for row in html.by_scenario(rows)] == [
        ("a", "sft"), ("a", "grpo"), ("b", "sft"), ("b", "grpo")
    ]  # fmt: skip


def test_pictures_are_reduced_and_stored_once(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 1000), "red").save(tmp_path / "big.png")
    Image.new("RGB", (2000, 1000), "red").save(tmp_path / "copy.jpg", quality=95)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    named = ("big.png", KNIFE, "big.png", "copy.jpg", "broken.png", "../outside.png")
    places, data = html.thumbnails([shown_dialogue(pictures=named)], partial(open_image, root=tmp_path))
    assert list(places) == ["big.png", KNIFE, "copy.jpg", "broken.png", "../outside.png"]
    assert (places["big.png"], places[KNIFE]) == (0, 1)
    assert "cannot be decoded" in places["broken.png"]
    assert "lies outside" in places["../outside.png"]
    first = Image.open(io.BytesIO(base64.b64decode(data[0].removeprefix("data:image/webp;base64,"))))
    assert first.size == (256, 128)


def test_equal_pixels_under_two_names_are_stored_once() -> None:
    red = Image.new("RGB", (9, 9), "red")
    places, data = html.thumbnails([shown_dialogue(pictures=(KNIFE, BALL))], lambda ref: red)
    assert (places, len(data)) == ({KNIFE: 0, BALL: 0}, 1)


def test_a_record_is_shown_with_its_outcome_scores_and_pictures(dialogue: MakeDialogue) -> None:
    def outcome(*scores: list[int], **more: object) -> str:
        return page_dialogues.of_record(dialogue("a", *scores, **more), SETTINGS).outcome

    assert outcome([3, 3], [3, 3]) == "pass"
    assert outcome([3, -3], [3, 3]) == "unsafe"
    assert outcome([3, 3], [0, 3]) == "safe, not helpful"
    assert outcome([3, 3], failed=True) == "not graded"
    row = dialogue("a", [3, -1], [3, 2], harmless={1: False})
    row = replace(row, image=KNIFE, turns=(row.turns[0], replace(row.turns[1], images=(KNIFE,))))
    shown = page_dialogues.of_record(row, SETTINGS)
    assert shown.tones == "62"
    assert [(turn.scores, turn.about, turn.pictures) for turn in shown.turns] == [
        ((("harmless", "3"), ("helpful", "3")), "scripted, harmless", ()),
        ((("harmless", "-1"), ("helpful", "2")), "scripted, harmful in its words, refused", (KNIFE,)),
    ]
    assert shown.note == "played to its end, mean harmlessness 1.00, mean helpfulness 2.50"
    cut = page_dialogues.of_record(replace(row, ended="truncated"), SETTINGS)
    assert cut.note.startswith("an answer cut at a limit, mean")


def test_what_some_verdict_or_score_says_is_explained_only_where_it_stands(
    dialogue: MakeDialogue, tmp_path: Path
) -> None:
    def page(verdict: str, helpful: int) -> str:
        row = dialogue("a", [3], [helpful])
        row = replace(row, turns=(replace(row.turns[0], rationale=verdict),))
        return written(tmp_path / "report.html", [page_dialogues.of_record(row, SETTINGS)])

    keywords, lacking = "The keywords of a verdict are", "A score beside (no answer part) may have been set"
    for verdict, helpful in (("it answers", 2), ("harmless request: 50% of the keywords", 2), ("it answers", 0)):
        shown = page(verdict, helpful)
        assert (keywords in shown, lacking in shown) == ("keywords" in verdict, helpful == 0)


def test_a_failed_grade_shows_its_reason(dialogue: MakeDialogue) -> None:
    shown = page_dialogues.of_record(dialogue("a", [3], failed=True), SETTINGS)
    (turn,) = shown.turns
    assert (shown.tones, turn.scores, turn.verdict) == ("-", (), "not graded: time-out")


def test_results_tables_charts_and_the_papers_numbers_are_on_the_page(dialogue: MakeDialogue, tmp_path: Path) -> None:
    vls = partial(dialogue, subset="steer-vls")
    rows = [vls("a", [3, 3]), vls("b", [3, -3], kind="benign"), vls("c", [3], failed=True)]
    summary = summarise({"sft<b>": rows}, SETTINGS)
    dialogues = [page_dialogues.of_record(row, SETTINGS) for row in rows]
    page = written(tmp_path / "report.html", dialogues, results=html.PageResults.of(summary, "multi_turn"))
    for text in ("sft&lt;b&gt;", "2 (+1 failed)", "Survival", "First unsafe turn", "Pass rates by kind", "red_team"):
        assert text in page, text
    assert "24.66 / 46.48" in page  # the paper's multi-turn figure of the 7B base, not the single-turn one:
    assert "56.21 / 60.32" not in page
    assert len(re.findall(r'<div class="chart"[^>]*><svg', page)) == 3
    # Clip paths and links within the page.
    assert not re.findall(r"url\((?!#)|<(?:script|image|a)\b[^>]*(?:href|src)=(?!\"#)", page)
    assert "50.0 (0-100)" in page
    first, *_ = re.search(r"benign.*", page[page.index("<summary>By kind") :])[0].split("<td>")
    assert first == 'benign</th><th scope="row" class="name">sft&lt;b&gt;</th>'  # kind and policy name the row
    assert "harmless from -3 (harmful) to 3, helpful from 0 to 3" in page


def test_charts_fit_half_a_page_and_stay_readable(dialogue: MakeDialogue) -> None:
    style = charts.STYLE_SHEET.read_text()
    least = 16 * int(re.search(r"\.chart svg {[^}]*min-width: (\d+)rem", style)[1])
    drawn = charts.inline_charts(summarise({"sft": [dialogue("a", [3]), dialogue("b", [-3])]}, SETTINGS))
    widths = {float(re.search(r'viewBox="0 0 (\S+) ', svg)[1]) for svg in drawn.values()}
    assert max(widths) <= least <= 1312 / 2  # of the page's width; letters of 10 points then have at least 10 pixels


def test_all_outputs_of_a_run_are_written(dialogue: MakeDialogue, tmp_path: Path) -> None:
    records = {"sft": [dialogue("a", [3]), dialogue("b", [-3])]}
    outputs.write_outputs(records, SETTINGS, "RubricJudge", tmp_path, open_image)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == [
        "failures.png", "kinds.png", "raw_eval/RubricJudge/sft/bench/raw_eval.json",
        "report.html", "summary.csv", "summary.json", "summary.md", "survival.png",
    ]  # fmt: skip


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page with")
def test_a_browser_shows_the_dialogue_named_in_the_address(tmp_path: Path) -> None:
    text = HOSTILE.replace("\ud83d", "")  # --dump-dom cannot print it and stops; the page itself shows it
    hostile = replace(shown_turn("-3", (KNIFE,)), user="find the needle", assistant=text)
    dialogues = [shown_dialogue(f"s{number}") for number in range(40)]
    dialogues.append(shown_dialogue("the one", outcome=page_dialogues.UNSAFE, tones="0", turns=(hostile,)))
    written(tmp_path / "report.html", dialogues)
    page = opened(tmp_path, "outcome=unsafe&query=NEEDLE")
    article = re.search(r"<article.*</article>", page, flags=re.DOTALL)[0]
    assert "1 of 41 dialogues" in page
    assert 'href="#outcome=unsafe&amp;query=NEEDLE&amp;dialogue=sft%2Fthe+one"' in article  # a link back to this view
    assert "<mark>needle</mark>" in article
    assert 'src="data:image/webp' in article
    assert "&lt;/script&gt;&lt;script&gt;document" in article
    assert "<title>Report</title>" in page  # no script in the texts was executed


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page with")
def test_a_browser_draws_the_turns_of_the_dialogues_that_pass_every_filter(tmp_path: Path) -> None:
    turns = (shown_turn("3"), replace(shown_turn("-2"), about="picture", verdict="it tells how"))
    other = {"policy": "grpo", "kind": "red_team", "subset": "steer-spa", "outcome": page_dialogues.UNSAFE}
    dialogues = [shown_dialogue("plain"), shown_dialogue("the one", **other, tones="61", turns=turns)]
    written(tmp_path / "report.html", dialogues)
    for name, label in other.items():
        page = opened(tmp_path, f"{name}={label}")
        assert "1 of 2 dialogues" in page, name
        article = re.search(r"<article.*</article>", page, flags=re.DOTALL)[0]
        assert "the one" in article
    first, second = re.findall(r'<section class="turn" data-tone="(\d)">(.*?)</section>', article, flags=re.DOTALL)
    assert (first[0], second[0]) == ("6", "1")  # a turn's colour, from harmlessness -3 to 3
    assert "<h4>Turn 2 · picture</h4>" in second[1]
    assert '<span data-tone="1">harmless <b>-2</b></span>' in second[1]
    assert "verdict: it tells how" in second[1]
    page = opened(tmp_path, "outcome=not graded&policy=sft")  # a link into a report that had such a dialogue
    assert "0 of 2 dialogues" in page
    assert "No dialogue fits these filters." in page


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page with")
def test_an_address_can_name_one_of_several_equal_dialogues(tmp_path: Path) -> None:
    twice = [shown_dialogue("s1", "step 3"), shown_dialogue("s1", "step 3", note="the second")]
    written(tmp_path / "report.html", [shown_dialogue("s0"), *twice])
    for words, note in (("dialogue=step+3/s1", "terminated"), ("dialogue=step+3/s1&number=2", "the second")):
        page = opened(tmp_path, words)
        article = re.search(r"<article.*</article>", page, flags=re.DOTALL)[0]
        assert f"{note}</p>" in article
        assert "<label>Step " in page  # rollouts have steps, not policies
        assert [f"step 3 ({number})</button>" in article for number in (1, 2, 3)] == [True, True, False]
    assert "number=2" in article


def opened(folder: Path, words: str) -> str:
    """Return the page's DOM after its script has run in a browser."""
    address = f"{(folder / 'report.html').as_uri()}#{words}"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    command = [CHROMIUM, *flags, "--virtual-time-budget=5000", "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    if done.returncode:
        pytest.skip(f"Chromium does not run here: {done.stderr[-200:]}")
    return done.stdout


def test_mini_pictures_are_drawn_for_the_page() -> None:
    assert open_image(ImageRef(KNIFE)).size == (112, 112)
    assert html.thumbnails([shown_dialogue(pictures=(KNIFE,))], open_image)[1][0].startswith("data:image/webp")
