"""A sweep as a whole: it is checked before its first run, and ends with one command that uses all runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, open_dict, read_write

from steer_lit.cli import main as cli
from steer_lit.cli import sweeps, train_run
from steer_lit.cli.closing import Result
from steer_lit.cli.going_on import mark_finished
from steer_lit.cli.run_folder import children_read, freeze
from steer_lit.cli.stopping import resumable
from steer_lit.errors import ServerDown, SteerError
from steer_lit.terminal.conf_files import conf_dir
from steer_lit.terminal.stdout import INTERRUPTED, REFUSED
from tests.cli.test_run_folder import checkpoint
from tests.settings import Refused
from tests.test_conf import empty_adapter


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list of the folders of runs that begin. Each run writes an adapter and is marked finished."""
    folders: list[Path] = []

    def run(config: DictConfig, run_dir: Path) -> None:
        folders.append(run_dir)
        empty_adapter(run_dir / "adapter")
        freeze(config, run_dir)
        mark_finished(run_dir, Result(""))

    monkeypatch.setitem(cli.RUNS, "train", run)
    return folders


def test_no_run_begins_if_one_of_them_cannot_work(begun: list[Path], tmp_path: Path, refused: Refused) -> None:
    words = ["-m", "+experiment=grpo_tiny", "reward.alpha=0,2", "seed=1,2", "optim.lr=-1"]
    heading, *problems = refused(*words, f"hydra.sweep.dir={tmp_path / 'sweep'}").splitlines()
    assert begun == []
    assert not (tmp_path / "sweep").exists()
    assert heading == "2 problems in this sweep of 4 runs, none was started:"
    (rate,) = [line for line in problems if "optim.lr" in line]
    (alpha,) = [line for line in problems if "  * reward.alpha" in line]
    assert "(first in " not in rate  # all runs have it
    assert alpha.endswith(" (first in #2 reward.alpha=2 seed=1)")


def test_the_sweep_of_a_config_is_checked(begun: list[Path], tmp_path: Path, refused: Refused) -> None:
    words = ["-m", "+experiment=ablation_nano", "seed=1", "sft_adapter=nowhere", f"hydra.sweep.dir={tmp_path}/sweep"]
    said = refused(*words)
    assert "1 problem in this sweep of 5 runs, none was started:" in said
    assert "sft_adapter='nowhere': no such folder" in said  # not init_from, which is derived from it
    assert "no_bootstrapping" not in said  # this row starts from no adapter


def test_a_sweep_without_a_run_is_refused(tmp_path: Path, refused: Refused) -> None:
    """Hydra alone would launch 0 jobs and end as if all were well."""
    said = refused("-m", "+experiment=glob(nothing_*)", f"hydra.sweep.dir={tmp_path}/sweep")
    assert said == "this sweep has no runs: one of its words gives no value"


def test_an_unresolvable_value_starts_no_run(
    begun: list[Path], tmp_path: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", "seed=1,2", f"hydra.sweep.dir={tmp_path}"]
    told = refused(*words, "ckpt_path=${nothing}")
    assert begun == []
    assert "  * ckpt_path: Interpolation key 'nothing' not found" in told
    assert cli.run("train", [*words, "name=of_${stage}"]) == 0  # a key of the run
    assert len(begun) == 2
    assert capsys.readouterr().out.splitlines()[-1].startswith("next:    python bench.py model=tiny")


def test_the_comparing_command_names_the_adapters_of_hydras_folders(
    begun: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", "+experiment=grpo_tiny", "reward.alpha=0,0.3", "seed=1,2", "model.lora.r=8"]
    assert cli.run("train", [*words, f"hydra.sweep.dir={tmp_path}"]) == 0
    first, second, third, fourth = (f"{folder}/adapter" for folder in begun)
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"next:    python bench.py model=tiny 'policies.alpha_0=[{first},{second}]' "
        f"'policies.alpha_0_3=[{third},{fourth}]' bench.limit=20 rollout.max_new_tokens=96 model.lora.r=8"
    )


def test_runs_with_their_number_in_a_setting_are_compared(
    begun: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (0, 1):
        empty_adapter(tmp_path / f"from_{number}")
    start = f"init_from='{tmp_path}/from_${{hydra:job.num}}'"
    assert cli.run("train", ["-m", "+experiment=grpo_tiny", "seed=1,2", start, f"hydra.sweep.dir={tmp_path}"]) == 0
    adapters = ",".join(f"{folder}/adapter" for folder in begun)
    # Each began with another adapter: none is compared with them.
    assert f"bench.py model=tiny 'policies.grpo=[{adapters}]'" in capsys.readouterr().out.splitlines()[-1]


def test_a_sweep_keeps_its_folder_with_a_time_in_its_name(
    begun: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", "+experiment=grpo_tiny", "seed=1,2", f"hydra.sweep.dir={tmp_path}/${{now:%H-%M-%S-%f}}"]
    assert cli.run("train", words) == 0
    closing = capsys.readouterr().out.splitlines()[-1]
    assert [folder for folder in begun if f"{folder}/adapter" in closing] == begun
    assert len({folder.parent for folder in begun}) == 1


def test_the_comparing_command_has_the_model_of_the_runs_that_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the sweep's last run was of another."""

    def run(config: DictConfig, run_dir: Path) -> None:
        if config.model.name == "nano":
            raise SteerError("this one fails")
        empty_adapter(run_dir / "adapter")
        freeze(config, run_dir)
        mark_finished(run_dir, Result(""))

    monkeypatch.setitem(cli.RUNS, "train", run)
    words = ["-m", "experiment=sft_tiny,sft_nano", "seed=1,2", f"hydra.sweep.dir={tmp_path}"]
    assert cli.run("train", words) == REFUSED
    assert "next:    python bench.py model=tiny 'policies." in capsys.readouterr().out


def test_a_repeated_sweep_skips_finished_runs_and_compares_only_those(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []

    def train(config: DictConfig, run_dir: Path) -> None:
        begun.append(config.seed)
        freeze(config, run_dir)
        empty_adapter(run_dir / "adapter")
        (run_dir / "trajectories.jsonl").touch()
        if config.seed == 2:
            raise ServerDown("nobody answers")
        mark_finished(run_dir, Result(""))

    monkeypatch.setattr(train_run, "_train", train)
    words = ["-m", "+experiment=grpo_tiny", "seed=1,2,3", f"hydra.sweep.dir={tmp_path}"]
    compared = f"next:    python bench.py model=tiny 'policies.grpo=[{tmp_path}/0_seed-1/adapter,{tmp_path}/2_seed-3/"
    assert cli.run("train", words) == REFUSED
    said = capsys.readouterr().out
    assert compared in said
    assert "\n         (without 1 run of this sweep that did not finish)\n" in said
    assert cli.run("train", words) == REFUSED
    assert begun == [1, 2, 3, 2]
    again = capsys.readouterr()
    assert again.out.count("finished already, left as it is: ") == 2
    assert f"finished already, left as it is: {tmp_path}/0_seed-1\n" in again.out
    assert compared in again.out
    assert again.err.splitlines()[-3:] == [
        "nobody answers",
        "not finished, for the reasons above: #1 of this sweep",
        f"next:    python train.py {' '.join(words)}",
    ]
    mark_finished(tmp_path / "1_seed-2", Result(""))
    assert cli.run("train", words) == 0
    capsys.readouterr()
    assert cli.run("train", [*words, "hardware.side_by_side=2"]) == 0  # settings that may differ
    assert "2_seed-3/adapter]' bench" in capsys.readouterr().out
    assert cli.run("train", [*words, "trainer.max_steps=9"]) == REFUSED  # none of which is finished
    said = capsys.readouterr().err
    assert said.startswith("3 problems in this sweep of 3 runs, none was started:\n")
    assert said.count("overwrite (trainer.max_steps=10 there") == said.count("folder, hydra.sweep.dir=...") == 3
    assert "next:" not in said
    assert cli.run("train", [*words[:2], "seed=1,9", words[-1]]) == 0  # runs are added beside those
    torch.save(checkpoint(1), tmp_path / "other.ckpt")
    assert cli.run("train", [*words, f"ckpt_path={tmp_path}/other.ckpt", "trainer.max_steps=9"]) == REFUSED
    said = capsys.readouterr().err
    assert said.startswith("3 problems in this sweep of 3 runs, none was started:\n")
    assert said.count("overwrite (trainer.max_steps=10 there") == 3
    assert begun == [1, 2, 3, 2, 9]


@pytest.mark.parametrize("error", [SteerError("too large"), RuntimeError("CUDA out of memory")])
def test_a_sweep_ends_if_a_run_on_several_devices_fails(
    error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run would wait for the ranks that the failed one has left. The others can be run later."""
    begun: list[int] = []

    def fails(config: DictConfig, run_dir: Path) -> None:
        begun.append(config.seed)
        raise error

    monkeypatch.setitem(cli.RUNS, "train", fails)
    monkeypatch.setattr(cli, "several_ranks", lambda: True)
    assert cli.run("train", ["-m", "seed=1,2", f"hydra.sweep.dir={tmp_path}"]) != 0
    assert begun == [1]
    said = capsys.readouterr().err
    assert str(error) in said
    assert said.splitlines()[-1] == f"next:    python train.py -m seed=1,2 hydra.sweep.dir={tmp_path}"


def test_an_exception_in_a_runs_own_code_is_followed_by_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(config: DictConfig, run_dir: Path) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setitem(cli.RUNS, "train", fails)
    with pytest.raises(RuntimeError) as caught:
        cli.run("train", ["-m", "seed=1,2", f"hydra.sweep.dir={tmp_path}"])
    assert caught.value.__notes__ == [f"next:    python train.py -m seed=1,2 hydra.sweep.dir={tmp_path}"]


@pytest.mark.parametrize("stop", [SystemExit(130), RuntimeError("CUDA out of memory")])
def test_a_stopped_sweep_goes_on_by_one_command(
    stop: BaseException, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the run at work from its checkpoint, then with the rest."""
    policy = SimpleNamespace(is_global_zero=True, checkpoint_callbacks=[], ckpt_path=None, global_step=7)
    policy.max_steps, policy.max_epochs = 8, None

    def fit(config: DictConfig, run_dir: Path) -> None:
        frozen = freeze(config, run_dir)
        (run_dir / "checkpoints").mkdir()
        torch.save(checkpoint(7), run_dir / "checkpoints" / "last.ckpt")
        with resumable(run_dir, ["seed=1"], policy, str), children_read(frozen):
            raise type(stop)(*stop.args)

    monkeypatch.setattr(train_run, "_train", fit)
    words, last = ["-m", "seed=1,2", f"hydra.sweep.dir={tmp_path}"], tmp_path / "0_seed-1/checkpoints/last.ckpt"
    told = ["stopped, step 7 is saved", f"next:    python train.py {' '.join(words)}"]
    if isinstance(stop, RuntimeError):
        with pytest.raises(RuntimeError) as caught:
            cli.run("train", words)
        assert caught.value.__notes__ == told
    else:
        assert cli.run("train", words) == 130
        assert capsys.readouterr().err.splitlines() == told
    begun: list[str | None] = []
    monkeypatch.setattr(train_run, "_train", lambda config, run_dir: begun.append(config.ckpt_path))
    assert cli.run("train", words) == 0
    assert begun[0] == str(last)
    assert len(begun) == 2


def test_a_sweep_stopped_after_a_runs_last_step_goes_on_with_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has nothing left, so that no other command comes first, and it is not begun again."""
    policy = SimpleNamespace(is_global_zero=True, checkpoint_callbacks=[], max_steps=7, max_epochs=None)
    policy.limit_val_batches, policy.datamodule = 1.0, SimpleNamespace(val_rows=[])
    begun: list[Path] = []

    def ended() -> str:
        mark_finished(begun[-1], Result(""))
        return "adapter: here"

    def fit(config: DictConfig, run_dir: Path) -> None:
        begun.append(run_dir)
        freeze(config, run_dir)
        (run_dir / "checkpoints").mkdir()
        torch.save(checkpoint(7), run_dir / "checkpoints" / "last.ckpt")
        with resumable(run_dir, [], policy, ended):
            raise SystemExit(130)

    monkeypatch.setattr(train_run, "_train", fit)
    words = ["-m", "seed=1,2", f"hydra.sweep.dir={tmp_path}"]
    told = [
        "stopped, step 7, this run's last, is saved",
        "adapter: here",
        f"next:    python train.py {' '.join(words)}",
    ]
    for _ in range(2):
        assert cli.run("train", words) == 130
        assert capsys.readouterr().err.splitlines() == told
    assert begun == [tmp_path / "0_seed-1", tmp_path / "1_seed-2"]


OPTUNA, ELSEWHERE = "hydra_plugins.hydra_optuna_sweeper.OptunaSweeper", "hydra_plugins.elsewhere.Elsewhere"


@pytest.mark.parametrize("sweeper", [sweeps.SWEEPER, OPTUNA])
def test_a_sweeper_that_chooses_runs_hears_of_one_that_failed(
    sweeper: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None would be a result to it. Hydra's own goes on with the other runs."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", return_hydra_config=True)
    with open_dict(config.hydra):
        config.hydra.sweeper._target_ = sweeper
        config.hydra.job.num = 3
    monkeypatch.setattr(HydraConfig.instance(), "cfg", config)
    command = cli.Command("train", [])
    command.sweep_dir = tmp_path
    hears = pytest.raises(cli.AlreadyReported) if sweeper == OPTUNA else nullcontext()
    with hears:
        command._failed(SteerError("no"), tmp_path / "run")
    assert command.failed == ["#3"]


def test_runs_of_other_sweepers_are_not_listed() -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", return_hydra_config=True)
    assert config.hydra.sweeper._target_ == sweeps.SWEEPER
    assert config.hydra.launcher._target_ in sweeps._HERE
    with read_write(config.hydra):
        config.hydra.sweeper._target_ = OPTUNA
    sweeps.WholeSweep().on_multirun_start(config, "train")  # it would need Hydra at work to list runs
    assert sweeps.WholeSweep.elsewhere is None  # the launcher is still the one that runs in this process


class Elsewhere(Launcher):
    """Starts no run; `outcome` is what it returns or raises. `given` is what a launcher starts runs with."""

    __module__ = "hydra_plugins.elsewhere"  # Hydra takes plugins of no other package

    outcome: Callable[[], JobReturn] = JobReturn
    given: ClassVar[dict[str, Any]] = {}

    def setup(self, **given: object) -> None:
        Elsewhere.given = given

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        return [Elsewhere.outcome() for _ in job_overrides]


@pytest.fixture
def elsewhere(begun: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return a function that starts a sweep of two runs with `Elsewhere`."""
    Plugins.instance().register(Elsewhere)
    package = SimpleNamespace(elsewhere=SimpleNamespace(Elsewhere=Elsewhere))
    monkeypatch.setitem(sys.modules, "hydra_plugins", package)
    monkeypatch.setitem(sys.modules, "hydra_plugins.elsewhere", package.elsewhere)

    def sweep(outcome: Callable[[], JobReturn], *words: str) -> int:
        monkeypatch.setattr(Elsewhere, "outcome", staticmethod(outcome))
        given = ["-m", *words, f"hydra.sweep.dir={tmp_path}", f"hydra.launcher={{_target_: {ELSEWHERE}}}"]
        return cli.run("train", given)

    return sweep


def _fails() -> JobReturn:
    lost = JobReturn(status=JobStatus.FAILED)
    lost.return_value = cli.AlreadyReported()
    return lost


def test_a_sweep_on_other_machines_is_not_checked_here(
    elsewhere: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may have what this one lacks. A failed run's reasons are in the launcher's logs."""
    words = ["seed=1,2", "trainer.max_steps=-7"]
    assert elsewhere(_fails, *words) == REFUSED
    logs = f"submitit's are in {tmp_path}/.submitit"
    said, again = capsys.readouterr().err.splitlines()[-2:]  # after a line of Hydra's
    assert said.startswith(
        f"not finished, for the reasons above or in the launcher's logs ({logs}): runs of this sweep;"
    )
    assert again.startswith("next:    python train.py -m seed=1,2 trainer.max_steps=-7 ")
    assert again.endswith(f" hydra.sweep.dir={tmp_path}")
    monkeypatch.setattr(sweeps, "_HERE", {ELSEWHERE})
    assert elsewhere(_fails, *words) == REFUSED
    assert "trainer.max_steps=-7" in capsys.readouterr().err


def test_ctrl_c_does_not_claim_that_runs_elsewhere_have_stopped(
    elsewhere: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def stops() -> JobReturn:
        raise KeyboardInterrupt

    assert elsewhere(stops, "seed=1,2") == INTERRUPTED
    told, again = capsys.readouterr().err.splitlines()
    assert f"go on in {tmp_path}" in told
    assert again.startswith("next:    python train.py -m seed=1,2 ")
    assert again.endswith(f" hydra.sweep.dir={tmp_path}")


def test_a_run_that_its_launcher_lost_is_no_bug_of_ours(
    elsewhere: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As one that was cancelled, or killed for its memory: submitit and joblib raise an error of their own then."""

    def loses() -> JobReturn:
        raise RuntimeError("Job 5_0\nhas not produced any output (state: CANCELLED by 0)\nIts log:\n...")

    assert elsewhere(loses, "seed=1,2") == REFUSED
    *told, said, again = capsys.readouterr().err.splitlines()
    assert told == ["RuntimeError: Job 5_0 has not produced any output (state: CANCELLED by 0)"]
    assert said.startswith("not finished, for the reasons above or ")
    assert again.endswith(f" hydra.sweep.dir={tmp_path}")


def test_an_error_of_a_launchers_process_is_shown_there(
    elsewhere: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hydra would carry it to the process that waits for the run, without the lines that raised it.

    One of several ranks ends at once: the others wait for it.
    """
    left: list[int] = []
    jobs: list[JobReturn] = []

    def breaks(*_: object) -> None:
        raise RuntimeError("a callback broke")

    def starts() -> JobReturn:
        config = Elsewhere.given["hydra_context"].config_loader.load_sweep_config(Elsewhere.given["config"], ["seed=1"])
        with open_dict(config.hydra.job):
            config.hydra.job.update(id="0", num=0)
        keys = {"job_dir_key": "hydra.sweep.dir", "job_subdir_key": "hydra.sweep.subdir"}
        jobs.append(run_job(**{**Elsewhere.given, "config": config}, **keys))
        return jobs[-1]

    monkeypatch.setitem(cli.RUNS, "train", breaks)
    assert elsewhere(starts, "seed=1") == REFUSED
    assert isinstance(jobs[0]._return_value, cli.AlreadyReported)  # a real launcher's process has a copy of the command
    shown = capsys.readouterr().err
    assert ", in breaks\n" in shown
    assert shown.count("\nRuntimeError: a callback broke\n") == 1
    assert shown.splitlines()[-2].startswith("not finished, for the reasons above or ")
    monkeypatch.setattr(cli, "several_ranks", lambda: True)
    monkeypatch.setattr(cli, "leave_other_ranks", lambda stop: left.append(stop.code))
    assert elsewhere(starts, "seed=1") == 1
    assert left == [1]


def test_runs_elsewhere_are_compared_at_the_end(
    elsewhere: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.run("train", ["-m", "seed=1,2", f"hydra.sweep.dir={tmp_path}"]) == 0
    (following,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next:")]
    assert elsewhere(lambda: JobReturn(status=JobStatus.COMPLETED), "seed=1,2") == 0
    assert following in capsys.readouterr().out


def test_the_check_of_a_sweeps_run_has_the_runs_environment_and_folder(
    begun: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[object] = []
    has = lambda config: found.append((os.environ.get("STEER_LIT_TEST"), Path(config.run_dir))) or []  # noqa: E731
    monkeypatch.setitem(sweeps._CHECKS, "train", has)
    words = ["-m", "seed=1,2", f"hydra.sweep.dir={tmp_path}", "+hydra.job.env_set.STEER_LIT_TEST=a"]
    assert cli.run("train", words) == 0
    assert found == [("a", folder) for folder in begun]
    assert len(begun) == 2
    assert "STEER_LIT_TEST" not in os.environ


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("seed=range(1,3,0)", "Hydra cannot use one of these words, ValueError: range() arg 3 must not be zero"),
        ("reward.alpha=interval(0,1)", "BasicSweeper does not support sweep type : INTERVAL_SWEEP"),
        ("experiment=glob(*),sft_tiny", "Could not override 'experiment'."),
        ("seed=choice(1", "seed=choice(1: is not a <key>=<value> that Hydra can read"),
        ("seed=shuffle(range(1,9))", "seed=shuffle(range(1,9)): a resumed sweep finds its runs by their position"),
        ("optim=[1],[2]", "Error merging override optim=[1]\nCannot merge"),
        ("model=3,4", "Hydra cannot use one of these words, ValueError: Config group override must be"),
        ("hydra.sweeper.max_batch_size=0", "Hydra cannot use one of these words, AssertionError"),
        ("hydra.launcher._target_=a.B", "Hydra cannot use one of these words, RuntimeError: Invalid plu"),
        ("hydra.launcher=null", "Hydra cannot use one of these words, "),
        ("reward=tcsr,nope", "In 'train': Could not find 'reward/nope'"),
        ("stage='',sft", "In 'train': Could not find 'stage/'"),
        ("stage=sft,null", "Hydra cannot use one of these words, ValueError: Config group"),
        ("model={a:1},{b:2}", "model.a: there is no such key in this run."),
    ],
)
def test_impossible_sweeps_are_refused_and_leave_nothing(
    begun: list[Path], tmp_path: Path, refused: Refused, recwarn: pytest.WarningsRecorder, word: str, said: str
) -> None:
    shown = refused("-m", "+experiment=grpo_tiny", *word.split(), f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert begun == []
    assert said in shown
    assert not (tmp_path / "sweep").exists()
    assert [str(warning.message) for warning in recwarn] == []


def test_runs_of_a_sweep_that_would_share_a_folder_are_refused(
    begun: list[Path], tmp_path: Path, refused: Refused
) -> None:
    words = ["-m", "+experiment=grpo_tiny", f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=${reward.alpha}"]
    shared = f"hydra.sweep.subdir: several runs would write into one folder, {tmp_path}/"
    assert refused(*words, "seed=1,2").startswith(shared)
    assert begun == []
    assert cli.run("train", [*words, "seed=1"]) == 0
    assert len(begun) == 1
