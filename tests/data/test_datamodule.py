"""The datamodule over both sources. `test_resume.py` tests its cursor with a real Trainer."""

from __future__ import annotations

import inspect
import json
import logging
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from torch import distributed

from steer_lit.data.datamodule import SteerDataModule
from steer_lit.data.images import picture_digest
from steer_lit.data.sources import FileSource, MiniSource
from steer_lit.errors import ConfigError, MissingResource, SteerError
from steer_lit.types import Dialogue, ImageRef, Scenario
from tests.forked import on_two_ranks
from tests.test_conf import compose

MINI = MiniSource(sft=47, rl=60, bench=20, captions=30, primer=100)


def mini(stage: str = "sft", **options: object) -> SteerDataModule:
    return SteerDataModule(MINI, stage, **{"batch_size": 8, **options})  # type: ignore[arg-type]


def ids(steps: object) -> list[list[str]]:
    return [[record.id for record in step] for step in steps]  # type: ignore[attr-defined]


def trainer(**given: object) -> Any:
    """Return the attributes of a Trainer that the datamodule reads before the first step."""
    loop = SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(processed=0)))
    return SimpleNamespace(fit_loop=SimpleNamespace(epoch_loop=loop), overfit_batches=0, **given)


# --- STEER-mini -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "record", "rows"), [("sft", Dialogue, 37), ("grpo", Scenario, 50), ("ground", Dialogue, 20)]
)
def test_each_row_is_trained_on_once_an_epoch_or_held_out(stage: str, record: type, rows: int) -> None:
    data = mini(stage, val_size=10)
    steps = list(data.train_dataloader())
    trained, held_out = (Counter(chain(*ids(loader))) for loader in (steps, data.val_dataloader()))
    assert all(isinstance(row, record) for step in steps for row in step)
    assert set(trained.values()) == set(held_out.values()) == {1}
    assert (len(trained), len(held_out), len(trained & held_out)) == (rows, 10, 0)
    assert (data.train_rows, data.val_rows) == (rows, 10)


def test_cut_rows_and_answers_without_the_answer_part_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, form = tmp_path / "rows.jsonl", "<answer>Ho</answer>"
    rows = [["Ho", form, "Ho"], [form, form], [form, form, form]]
    asked = {"role": "user", "content": "Hi"}
    told = [[turn for said in row for turn in (asked, {"role": "assistant", "content": said})] for row in rows]
    path.write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in told))

    def logged(stage: str, max_turns: int, played: int | None = None) -> list[str]:
        caplog.clear()
        source = FileSource(**{"sft" if stage == "sft" else "rl": str(path)})
        module = SteerDataModule(source, stage, 1, max_turns=max_turns)  # type: ignore[arg-type]
        module.turns_played = played
        module.setup("fit")
        return [record.getMessage() for record in caplog.records if "put aside" not in record.getMessage()]

    with caplog.at_level(logging.INFO, "steer_lit.data"):
        cut = f"{path}: 2 rows cut after 2 turns (max_turns)"
        bare = "1 of 6 answers has no <answer> part: a policy that learns to answer so is given 0 for helpfulness"
        repeated = "data.source.sft: repeated rows: 1 of 3"  # after two turns, the second and the last are alike
        assert logged("sft", 2) == [cut, repeated, bare]
        assert logged("sft", 3) == [bare.replace("1 of 6 answers has", "2 of 8 answers have")]
        repeated = "data.source.rl: repeated rows: 1 of 3"  # the first and the last ask the same
        assert logged("grpo", 2) == [cut, repeated.replace("1 of", "2 of")]
        assert logged("grpo", 3) == [repeated]
        openings = "data.source.rl: repeated rows, cut after 1 turn (rollout.max_turns): 2 of 3"
        assert logged("grpo", 3, played=1) == [openings]


def test_shuffling_keeps_kinds_balanced_and_twins_adjacent() -> None:
    order = [row for step in mini("grpo").train_dataloader() for row in step]
    assert order != sorted(order, key=lambda row: row.id)
    places = {row.id: place for place, row in enumerate(order)}
    for start in range(0, 60, 10):
        assert Counter(row.kind for row in order[start : start + 10])["benign"] == 3
    twins = [(row.id, row.metadata["twin"]) for row in order if row.metadata["twin"]]
    assert len(twins) == 36
    assert all(abs(places[row] - places[twin]) == 1 for row, twin in twins)


def test_max_turns_and_scale_reach_the_rows() -> None:
    data = SteerDataModule(
        MiniSource(sft=40, rl=40, bench=40, captions=40, primer=100, scale=0.25), "grpo", 5, max_turns=3
    )
    assert {len(row.attacks) for step in data.train_dataloader() for row in step} <= {2, 3}
    assert data.train_rows == 10


def test_blank_pictures_change_the_pixels_only() -> None:
    for stage in ("sft", "grpo"):
        seen, blank = mini(stage), mini(stage, blank_images=True)
        for step, blanked in zip(seen.train_dataloader(), blank.train_dataloader(), strict=True):
            for row, other in zip(step, blanked, strict=True):
                assert repr(row) == repr(other).replace("blank:", "")
                assert repr(other).count("blank:mini://") == repr(row).count("mini://") >= 1


def test_settings_that_do_not_fit_the_rows_are_refused() -> None:
    for wrong, key in ((mini(val_size=15), "data.val_size"), (mini(val_size=50), "data.val_size")):
        with pytest.raises(ConfigError, match=key):
            wrong.train_dataloader()
    with pytest.raises(ConfigError, match="mean_turns"):
        SteerDataModule(MiniSource(9, 9, 9, 9, 9, mean_turns=12), "sft", 3).train_dataloader()


def test_the_steps_of_two_ranks_make_up_one_step() -> None:
    whole = ids(mini().train_dataloader())
    parts = []
    for rank in range(2):
        data = mini()
        data.trainer = trainer(global_rank=rank, world_size=2)
        parts.append(ids(data.train_dataloader()))
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(step) for step in whole]
    data = mini()
    data.trainer = trainer(global_rank=0, world_size=9)
    with pytest.raises(ConfigError, match="each of the 9 ranks a row"):
        data.train_dataloader()


def test_the_saved_cursor_is_plain_numbers_and_refuses_another_split() -> None:
    data = mini()
    state = data.state_dict()
    facts = state["facts"]
    assert state == {"stage": "sft", "seed": 0, "epoch": 0, "position": 0, "rows": 47, "facts": facts}
    assert {type(value) for value in state.values()} == {int, str}
    for other in (mini(val_size=10), mini(seed=4)):
        with pytest.raises(SteerError, match=r"continued\. Use its experiment and data settings"):
            other.load_state_dict(state)
    data.load_state_dict({**state, "epoch": 2, "position": 16})
    rest = ids(data.train_dataloader())
    assert (len(rest), data.state_dict()["epoch"]) == (4, 3)  # the 31 rows left of 47; then the start of the next epoch


@pytest.mark.parametrize(
    "other",
    [
        SteerDataModule(replace(MINI, seed=5), "sft", 8),
        SteerDataModule(replace(MINI, mean_turns=3.0), "sft", 8),
        mini(max_turns=4),
        mini(blank_images=True),
    ],
)
def test_other_rows_of_the_same_number_are_refused(other: SteerDataModule) -> None:
    state = mini().state_dict()
    for refuse in (other.load_state_dict, other.check_resumable):
        with pytest.raises(SteerError, match=r"other rows than this run's .* cannot be continued"):
            refuse(state)
    mini(batch_size=4).load_state_dict(state)


# --- files ------------------------------------------------------------------------------------------------------------


def turn(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of row files in STEER's format, with two pictures and a missing one."""
    Image.new("RGB", (30, 20), (9, 99, 200)).save(tmp_path / "a.png")
    Image.new("RGB", (30, 20)).save(tmp_path / "b.jpg")
    rl = [
        {
            "question": turn(f"<image>Number {number}?"),
            "images": ["b.jpg"],
            "metadata": {"question_id": f"rl-{number}", "rest_messages": turn("More?", "", "And more?")},
        }
        for number in range(7)
    ]
    sft = [{"messages": turn("Hi", "Hello", "<image>This?", "A wall."), "images": ["a.png"]}, {"messages": turn("Hi")}]
    for name, rows in (("rl", rl), ("sft", sft)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return tmp_path


def files(folder: Path, stage: str = "grpo", **options: object) -> SteerDataModule:
    source = FileSource(*(str(folder / f"{name}.jsonl") for name in ("sft", "rl")))
    return SteerDataModule(source, stage, **{"batch_size": 3, **options})  # type: ignore[arg-type]


def test_files_are_cut_shuffled_and_held_out_row_by_row(folder: Path) -> None:
    data = files(folder, max_turns=2, val_size=2)
    steps = list(data.train_dataloader())
    assert [len(step) for step in steps] == [3, 2]
    assert {len(row.attacks) for step in steps for row in step} == {2}
    assert sorted(chain(*ids(steps), *ids(data.val_dataloader()))) == [f"rl-{number}" for number in range(7)]


def test_the_rows_held_out_of_a_file_follow_from_what_the_user_says(tmp_path: Path) -> None:
    """So seeds can be compared, and GRPO validates on nothing that SFT has learned."""
    asked = [f"Number {number}?" for number in range(30)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"messages": turn(said, "Yes.", "And?", "No.")}) + "\n" for said in asked))

    def held_out(stage: str, val_size: int, seed: int = 0, max_turns: int = 10) -> set[str]:
        source = FileSource(sft=str(path), rl=str(path))
        data = SteerDataModule(source, stage, 3, seed, val_size, max_turns)  # type: ignore[arg-type]
        learned, kept = (
            [
                (row.opening.message if isinstance(row, Scenario) else row.turns[0][0]).text
                for step in loader
                for row in step
            ]
            for loader in (data.train_dataloader(), data.val_dataloader())
        )
        assert sorted({*learned, *kept}) == sorted(asked)
        assert not {*learned} & {*kept}
        return set(kept)

    kept = held_out("sft", 9)
    assert len(kept) == 9
    assert kept == held_out("sft", 9, seed=1) == held_out("grpo", 9, seed=2, max_turns=1)
    assert held_out("grpo", 4) < kept < held_out("sft", 10)
    path.write_text(path.read_text() * 2)
    assert held_out("sft", 17) == kept


def test_rows_that_one_stage_cannot_use_leave_the_others_on_their_side(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [turn("Hi", "Hello.", f"Number {number}?", "Yes.", "And?", "No.") for number in range(40)]
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in rows))

    def sides(stage: str, unfit: set[str], max_turns: int = 2) -> list[set[str]]:
        source = FileSource(sft=str(path), rl=str(path))
        data = SteerDataModule(source, stage, 3, 0, 10, max_turns, max_bad_rows=40)  # type: ignore[arg-type]
        data.unfit = lambda record: "is too long" if record.id in unfit else None
        return [set(chain(*ids(loader))) for loader in (data.train_dataloader(), data.val_dataloader())]

    learned, kept = sides("grpo", set())
    unfit = {*sorted(kept)[:5], *sorted(learned)[:5]}
    assert sides("sft", unfit) == sides("sft", unfit, max_turns=3) == [learned - unfit, kept - unfit]
    with pytest.raises(ConfigError, match=r"nothing held out: .*; 10 other rows cannot be used, .* is too long"):
        sides("sft", kept)


def test_rows_put_aside_are_told_where_too_few_are_left_to_hold_some_out(folder: Path) -> None:
    data = files(folder, "sft", val_size=1, max_bad_rows=1)
    with pytest.raises(ConfigError, match=r"of 1 row, at most 0 can be held out; 1 other row .* row 2, .*alternate"):
        data.train_dataloader()


def read_on_a_rank(rank: int, folder: str, second: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    source = FileSource(rl=f"{folder}/{('rows', second)[rank]}.jsonl")
    try:
        SteerDataModule(source, "grpo", 2).setup("fit")
        said = "agreed"
    except SteerError as error:
        said = str(error)
    Path(folder, f"{second}.{rank}").write_text(said)
    distributed.destroy_process_group()


def test_ranks_that_read_different_rows_are_stopped(tmp_path: Path) -> None:
    """A node with an older copy, or a file that is still being written, would train on some rows twice."""
    for name, last in (("rows", "three"), ("same", "three"), ("older", "four")):
        rows = [{"turns": [word]} for word in ("one", "two", last)]
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for second in ("same", "older"):
        on_two_ranks(read_on_a_rank, str(tmp_path), second)
        (tmp_path / "rendezvous").unlink(missing_ok=True)
    assert [(tmp_path / f"same.{rank}").read_text() for rank in (0, 1)] == ["agreed"] * 2
    told = [(tmp_path / f"older.{rank}").read_text() for rank in (0, 1)]
    assert told[0] == told[1]
    assert told[0].startswith("process 1 has read other rows or pictures than process 0 (3 and 3 rows")


def test_sft_files_give_dialogues(folder: Path) -> None:
    data = files(folder, "sft", max_bad_rows=1, max_turns=2)
    ((dialogue,),) = list(data.train_dataloader())
    assert [message.role for message in dialogue.messages] == ["user", "assistant"] * 2
    assert data.describe() == "data: 1 dialogue to train on, 0 held out, 1 put aside"


@pytest.mark.parametrize(
    ("name", "rank", "writes"), [("LOCAL_RANK", 0, True), ("LOCAL_RANK", 1, False), ("NODE_RANK", 1, False)]
)
def test_the_first_rank_writes_the_quarantine_into_the_runs_folder(
    folder: Path, name: str, rank: int, writes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(rank))
    data = files(folder, "sft", max_bad_rows=1)
    data.read_files(folder / "run")
    assert data.train_rows == 1
    assert (folder / "run" / "quarantine.jsonl").is_file() == writes


def test_the_keys_of_the_config_are_all_that_a_datamodule_is_made_with() -> None:
    """A user's own class, as `data._target_`, needs no parameter that no config shows."""
    taken = set(inspect.signature(SteerDataModule).parameters)
    assert taken | {"_target_"} == set(compose("data=steer").data)


def test_rows_that_the_policy_cannot_use_are_set_aside(folder: Path) -> None:
    data = files(folder, max_bad_rows=1)
    data.read_files(folder)
    data.unfit = lambda record: "is too long" if record.id == "rl-3" else None
    assert data.train_rows == 6
    assert "is too long" in (folder / "quarantine.jsonl").read_text()


@pytest.mark.parametrize("stage", ["grpo", "sft"])
def test_a_run_of_grpo_notes_which_pictures_its_rollouts_may_show(folder: Path, stage: str) -> None:
    """Not one of SFT, which leaves no rollouts."""
    data = files(folder, stage, max_bad_rows=1)
    data.read_files(folder / "run")
    data.setup("fit")
    noted = folder / "run" / "pictures.json"
    assert noted.is_file() == (stage == "grpo")
    if stage == "grpo":
        assert json.loads(noted.read_text()) == {"b.jpg": picture_digest(ImageRef("b.jpg"), folder)}


@pytest.mark.parametrize("changed", ["row", "picture"])
def test_a_file_that_was_changed_is_refused(folder: Path, changed: str) -> None:
    state = files(folder).state_dict()
    files(folder).load_state_dict(state)
    if changed == "row":
        (folder / "rl.jsonl").write_text((folder / "rl.jsonl").read_text().replace("More?", "Less?", 1))
    else:
        Image.new("RGB", (30, 20), (1, 2, 3)).save(folder / "b.jpg")
    for refuse in (files(folder).load_state_dict, files(folder).check_resumable):
        with pytest.raises(SteerError, match="other rows than this run's"):
            refuse(state)
    assert files(folder).state_dict()["rows"] == state["rows"]


def test_a_file_with_more_rows_is_not_said_to_have_as_many(folder: Path) -> None:
    state = files(folder).state_dict()
    (folder / "rl.jsonl").write_text((folder / "rl.jsonl").read_text() + '\n{"turns": ["One more?"]}')
    with pytest.raises(SteerError, match="training data has other rows than this run's"):
        files(folder).check_resumable(state)
    with pytest.raises(SteerError, match="rows=7, this run's has rows=8"):
        files(folder).load_state_dict(state)


def test_blank_lines_change_no_row(folder: Path) -> None:
    """A row without an id is named by its number, which does not count blank lines."""
    nameless = folder / "nameless.jsonl"
    nameless.write_text("".join(json.dumps({"turns": [turn]}) + "\n" for turn in "abcd"))
    state = SteerDataModule(FileSource(rl=str(nameless)), "grpo", 1).state_dict()
    nameless.write_text(f"\n\n{nameless.read_text()}")
    later = SteerDataModule(FileSource(rl=str(nameless)), "grpo", 1)
    later.load_state_dict(state)
    assert later.state_dict() == state


def test_file_sources_that_cannot_serve_the_stage_are_refused(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "rl.jsonl"
    elsewhere.write_text('{"question": 1}')
    rl = str(folder / "rl.jsonl")
    for source, stage, error, reason in (
        (FileSource(rl=rl), "sft", ConfigError, r"data\.source\.sft=null: name a row file"),
        (FileSource(rl=rl), "ground", ConfigError, "hold no captions"),
        (FileSource(rl=rl, bench=str(elsewhere)), "grpo", ConfigError, r"data\.source\.folder"),
        (FileSource(rl=str(folder / "none.jsonl")), "grpo", MissingResource, "is no such file"),
        (FileSource(rl=str(elsewhere)), "grpo", SteerError, r"data file .* holds no usable row, 1 were put"),
    ):
        with pytest.raises(error, match=reason):
            SteerDataModule(source, stage, 1, max_bad_rows=1).setup("fit")  # type: ignore[arg-type]
    assert files(folder).source.image_root == folder
    assert FileSource(rl=rl, bench=str(elsewhere), folder="pictures").image_root == Path("pictures")


# --- configs ----------------------------------------------------------------------------------------------------------


def test_the_configs_have_the_papers_number_of_rows(repository: Path, folder: Path) -> None:
    config = OmegaConf.load(repository / "conf" / "data" / "steer_mini.yaml")
    for stage, rows in (("sft", 12_934), ("grpo", 2_000), ("ground", 12_934)):
        data = instantiate(config, stage=stage, batch_size=1)
        assert data.train_rows + data.val_rows == rows  # paper, STEER-SFT and STEER-RL
    config = OmegaConf.load(repository / "conf" / "data" / "steer.yaml")
    data = instantiate(config, stage="grpo", batch_size=1, val_size=0, source={"rl": str(folder / "rl.jsonl")})
    assert data.describe() == "data: 7 scenarios to train on, 0 held out, 0 put aside"


@pytest.mark.parametrize("name", ["steer", "steer_mini"])
def test_every_value_of_a_data_config_has_a_comment(repository: Path, name: str) -> None:
    for line in (repository / "conf" / "data" / f"{name}.yaml").read_text().splitlines():
        assert "#" in line or "_target_" in line or line == "source:", line
