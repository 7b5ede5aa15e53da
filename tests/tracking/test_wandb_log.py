"""W&B gets what metrics.csv gets, needs nothing, and cannot stop a run."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import wandb
from PIL import Image

from eoc.errors import InvalidInput
from eoc.tracking import figures, wandb_log
from eoc.tracking.courier import Courier
from eoc.tracking.run_folder import CHECKPOINT
from eoc.tracking.wandb_log import WandbLog
from eoc.tracking.wandb_process import Clerk
from eoc.tracking.wandb_service import without_launch
from support import EVERY_STEP, NO_FIGURE, Crash, Run, composed, crash_at, trained
from tracking.inspecting import FIGURE, history, of_type, offline_runs, public, records, rows_of

OFFLINE = "logger.wandb.mode=offline"
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("fresh_wandb")


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[dict[str, Any]]]:
    root = tmp_path_factory.mktemp("offline")
    words = [OFFLINE, f"paths.wandb={root}", "logger.wandb.group=a sweep", "logger.wandb.project=a project"]
    run = trained(root / "run", *EVERY_STEP, *words, "schedule.kappa=2.25")
    (folder,) = offline_runs(root)
    return run, records(folder)


def test_a_run_has_its_name_group_tags_and_config(offline: tuple[Run, list[dict[str, Any]]]) -> None:
    run, found = offline
    (opened,) = of_type(found, "run")
    settings = "dataset.n_train=60 dataset.n_test=40 trainer.max_steps=8 schedule.kappa=2.25"
    assert opened["display_name"] == f"nup-l3-m6-g2.0-geometric-digits-s0 {settings}"
    assert opened["run_group"] == "a sweep"
    assert opened["tags"] == ["nup", "geometric", "digits"]
    assert opened["project"] == "a project"
    assert opened["job_type"] == "train"
    assert opened["run_id"] == run.module.trainer.loggers[1].version
    config = opened["config"]["update"]
    assert config["schedule"]["kappa"] == 2.25
    assert config["dataset"]["n_train"] == 60
    assert config["paths"]["run"] == str(run.folder)  # resolved


def test_a_run_has_the_commit_of_its_code(offline: tuple[Run, list[dict[str, Any]]]) -> None:
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    if asked.returncode != 0:
        pytest.skip("this source tree has no history")
    assert of_type(offline[1], "run")[0]["git"]["commit"] == asked.stdout.strip()


def test_the_x_axis_of_everything_is_step(offline: tuple[Run, list[dict[str, Any]]]) -> None:
    _, found = offline
    step, everything = of_type(found, "metric")
    assert step["name"] == "step"
    assert everything["glob_name"] == "*"
    assert everything["step_metric"] == "step"


def test_wandb_and_csv_carry_the_same_rows(offline: tuple[Run, list[dict[str, Any]]]) -> None:
    run, found = offline
    items = history(found)
    assert [public(item) for item in items] == rows_of(run)
    assert [item["_step"] for item in items] == [item["step"] for item in items] == list(range(9))


def test_the_figure_and_the_outcome_are_there(offline: tuple[Run, list[dict[str, Any]]]) -> None:
    _, found = offline
    *before, last = history(found)
    assert last[f"{FIGURE}.format"] == "png"
    assert not any(name.startswith(FIGURE) for item in before for name in item)
    updates: dict[str, Any] = {}
    for record in of_type(found, "summary"):
        updates |= record["update"]
    assert updates["status"] == "completed"
    assert updates["parameters"] == 64 * 6 + 6 * 24 + 24 * 10
    assert [record["exit_code"] for record in of_type(found, "exit")] == [0]


def test_runs_of_one_process_stay_apart(tmp_path: Path) -> None:
    words = ["callbacks=none", OFFLINE, f"paths.wandb={tmp_path}"]
    first = trained(tmp_path / "a", *words, "seed=1", "trainer.max_steps=3")
    second = trained(tmp_path / "b", *words, "seed=2", "trainer.max_steps=4")
    found = [records(folder) for folder in offline_runs(tmp_path)]
    assert len(found) == 2
    by_seed = {of_type(one, "run")[0]["config"]["update"]["seed"]: one for one in found}
    for seed, run in ((1, first), (2, second)):
        assert [public(item) for item in history(by_seed[seed])] == rows_of(run)
    assert len({of_type(one, "run")[0]["run_id"] for one in found}) == 2


def test_a_run_that_goes_on_keeps_its_id_and_one_that_crashes_says_so(tmp_path: Path) -> None:
    words = [NO_FIGURE, "callbacks.checkpoint.every=2", OFFLINE, f"paths.wandb={tmp_path}"]
    with pytest.raises(Crash):
        trained(tmp_path / "run", *words, then=crash_at(4))
    (before,) = offline_runs(tmp_path)
    run = trained(tmp_path / "run", *words, ckpt_path=tmp_path / "run" / CHECKPOINT)
    (after,) = [folder for folder in offline_runs(tmp_path) if folder != before]
    found, went_on = records(before), records(after)
    assert of_type(found, "run")[0]["run_id"] == of_type(went_on, "run")[0]["run_id"]
    assert of_type(found, "exit")[0]["exit_code"] == 1
    # readers keep the last row of a step
    merged = {item["step"]: public(item) for item in (*history(found), *history(went_on))}
    timeless = [
        [{n: v for n, v in row.items() if not n.endswith("milliseconds")} for row in rows]
        for rows in (merged.values(), rows_of(run))
    ]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("schedule", ["cosine", "geometric"])
def test_a_longer_run_is_the_same_whatever_follows_from_its_length(schedule: str, tmp_path: Path) -> None:
    words = ["callbacks=[checkpoint]", OFFLINE, f"paths.wandb={tmp_path}", f"schedule={schedule}"]
    trained(tmp_path / "run", *words, "trainer.max_steps=3")
    trained(tmp_path / "longer", *words, "trainer.max_steps=5", ckpt_path=tmp_path / "run" / CHECKPOINT)
    assert len({of_type(records(folder), "run")[0]["run_id"] for folder in offline_runs(tmp_path)}) == 1


def test_runs_that_branch_off_a_checkpoint_are_runs_of_their_own(tmp_path: Path) -> None:
    words = ["callbacks=[checkpoint]", OFFLINE, f"paths.wandb={tmp_path}", "schedule=constant"]
    trained(tmp_path / "run", *words, "trainer.max_steps=3")
    checkpoint, longer = tmp_path / "run" / CHECKPOINT, "trainer.max_steps=5"
    trained(tmp_path / "longer", *words, longer, ckpt_path=checkpoint)
    for rate in (0.1, 0.2):
        trained(tmp_path / f"{rate}", *words, longer, f"schedule.rate={rate}", ckpt_path=checkpoint)
    found = [of_type(records(folder), "run")[0] for folder in offline_runs(tmp_path)]
    assert len(found) == 4
    by_rate: dict[float, set[str]] = {}
    for run in found:
        by_rate.setdefault(run["config"]["update"]["schedule"]["rate"], set()).add(run["run_id"])
    assert [len(ids) for ids in by_rate.values()] == [1, 1, 1]  # the first, and what goes on unchanged, are one
    assert len(set.union(*by_rate.values())) == 3


def test_infinite_values_are_logged_alike(tmp_path: Path) -> None:
    words = [NO_FIGURE, "model.activation=abs", "schedule=constant", "schedule.rate=1e30"]
    run = trained(tmp_path / "run", *words, OFFLINE, f"paths.wandb={tmp_path}")
    rows = rows_of(run)
    assert math.inf in [row.get("train/loss") for row in rows]
    (folder,) = offline_runs(tmp_path)
    assert [public(item) for item in history(records(folder))] == rows


def test_disabled_writes_nothing(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "callbacks=none", "logger.wandb.mode=disabled", f"paths.wandb={tmp_path / 'w'}")
    assert run.summary["status"] == "completed"
    assert not (tmp_path / "w").exists()
    assert {path.name for path in tmp_path.rglob("*")} == {
        "run",
        ".hydra",
        "config.yaml",
        "config.json",
        ".lock",
        "metrics.csv",
        "summary.json",
    }


def test_the_mode_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert composed(tmp_path).logger.wandb.mode == "disabled"
    monkeypatch.delenv("WANDB_MODE")
    assert composed(tmp_path).logger.wandb.mode == "offline"


@pytest.mark.usefixtures("wandb_here")
@pytest.mark.parametrize("broken", ["init", "log", "root"])
def test_a_broken_wandb_is_said_once_and_stops_nothing(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, finished = tmp_path / "w", []

    class Mute:
        """A run that takes three rows."""

        dir, rows, starting_step = str(tmp_path / "w" / "x" / "files"), 0, 0

        def define_metric(self, *args: Any, **kwargs: Any) -> None:
            pass

        def log(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
            self.rows += 1
            if self.rows > 3:
                raise ConnectionError("the line is dead")

        def finish(self, exit_code: int) -> None:
            finished.append(exit_code)

    def no_start(**kwargs: Any) -> None:  # noqa: ARG001
        raise RuntimeError("the line is dead")

    if broken == "root":
        root.write_text("a file where a folder should be")
    else:
        monkeypatch.setattr(wandb, "init", no_start if broken == "init" else lambda **kwargs: Mute())  # noqa: ARG005
    with pytest.warns(UserWarning, match="W&B stopped") as warned:
        run = trained(tmp_path / "run", NO_FIGURE, OFFLINE, f"paths.wandb={root}")
    assert len(warned) == 1
    assert "metrics.csv has every value" in str(warned[0].message)
    assert run.summary["status"] == "completed"
    assert run.columns["step"] == list(range(9))
    assert run.value == run.columns["test/loss"][-1]
    assert finished == ([0] if broken == "log" else [])  # what was opened is closed


def test_a_folder_that_is_there_and_cannot_be_written_is_not_exchanged_for_another(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="W&B stopped") as warned:
        run = trained(tmp_path / "run", NO_FIGURE, OFFLINE, "paths.wandb=/proc")
    reason = "/proc cannot be written, No such file or directory"
    assert [str(each.message) for each in warned] == [
        f"W&B stopped ({reason}); metrics.csv has every value, W&B may lack some"
    ]
    assert run.columns["step"] == list(range(9))


@pytest.mark.parametrize("place", ["/proc", "/proc/nope", "{tmp}/figure.png"])
def test_figures_that_wandb_does_not_take_are_not_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder, place: str
) -> None:
    (tmp_path / "figure.png").touch()
    runs = place.format(tmp=tmp_path)
    assert figures.main([str(tmp_path), f"--runs={runs}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: W&B did not take the figures of {tmp_path} into --runs={runs} ({runs} cannot be wri")
    assert err.count("\n") == 1
    assert list(recwarn) == []


@pytest.mark.usefixtures("wandb_here")
def test_nothing_is_waited_for_while_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B takes 0.2 s for every row: the eight steps do not, and every row arrives all the same."""
    taken: list[int] = []

    class Slow:
        dir, starting_step = str(tmp_path / "files"), 0

        def define_metric(self, *args: Any, **kwargs: Any) -> None:
            pass

        def log(self, row: dict[str, float], step: int) -> None:
            time.sleep(0.2)
            taken.append(step)
            assert row["step"] == step

        def finish(self, exit_code: int) -> None:
            taken.append(-exit_code - 1)

    monkeypatch.setattr(wandb, "init", lambda **kwargs: Slow())  # noqa: ARG005
    log = WandbLog(project="eoc", mode="offline", root=str(tmp_path))
    start = time.perf_counter()
    for step in range(5):
        log.log_metrics({"a": 1.0}, step=step)
    assert time.perf_counter() - start < 0.2
    log.finish()
    assert taken == [0, 1, 2, 3, 4, -1]


def test_a_mode_is_one_of_three() -> None:
    with pytest.raises(InvalidInput, match="mode=shared is not possible: it must be one of offline, online, disabled"):
        WandbLog(project="eoc", mode="shared", root="/")


def test_what_a_run_spares_wandb_is_spared_for_the_start_alone() -> None:
    name = "wandb.sdk.launch.inputs.internal"
    kept = sys.modules.pop(name, None)
    try:
        with without_launch():
            assert sys.modules[name].StagedLaunchInputs().apply(object()) is None
        assert name not in sys.modules
    finally:
        if kept is not None:
            sys.modules[name] = kept


def test_a_job_of_wandb_launch_is_spared_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "wandb.sdk.launch.inputs.internal"
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv("WANDB_LAUNCH", "true")
    with without_launch():
        assert name not in sys.modules


def test_wandb_is_imported_without_reading_its_own_source_and_pydantic_is_left_as_it_was() -> None:
    program = """
import sys
from unittest.mock import patch
from pydantic._internal import _docs_extraction, _fields
from eoc.tracking.wandb_service import import_wandb
with patch("inspect.findsource", side_effect=AssertionError("source was read")):
    import_wandb()
assert "wandb" in sys.modules
assert _fields.extract_docstrings_from_cls is _docs_extraction.extract_docstrings_from_cls
settings = sys.modules["wandb"].Settings(mode="offline")
print(settings.mode, type(settings).model_fields["mode"].description)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["offline", "None"]


@pytest.mark.usefixtures("fresh_wandb")
def test_a_figure_is_logged_without_pandas(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from eoc.tracking.wandb_desk import Desk
from eoc.tracking.wandb_service import import_wandb
import_wandb()
root, figure = sys.argv[1:]
desk = Desk()
desk.open(Path(root), "offline", 20.0, False, id="a", project="p", program="", arguments=[], process=1)
desk.log_images("figure", [figure])
desk.close(0)
print("pandas" in sys.modules)
"""
    figure = tmp_path / "figure.png"
    Image.new("RGB", (2, 2)).save(figure)
    words = [sys.executable, "-c", program, str(tmp_path), str(figure)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
    (folder,) = offline_runs(tmp_path)
    (row,) = history(records(folder))
    assert row["figure.count"] == 1


def test_rows_of_one_second_are_handed_over_together_each_with_its_own_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errands: list[Any] = []
    send = Courier.send

    def counted(self: Courier, errand: Any, seconds: float) -> None:
        errands.append(errand)
        send(self, errand, seconds)

    monkeypatch.setattr(Courier, "send", counted)
    monkeypatch.setattr(wandb_log, "GATHERED", 0.5)
    log = WandbLog(project="p", mode="offline", root=str(tmp_path))
    for step in range(10):
        log.log_metrics({"a": step / 2}, step=step)
        time.sleep(0.01)
    assert len(errands) == 2  # the start and the first row, which nothing is to be waited for
    time.sleep(0.5)
    log.log_metrics({"a": 5.0}, step=10)
    assert len(errands) == 3  # the others with the one that comes when their time is up
    log.log_metrics({"a": 5.5}, step=11)
    log.finish()
    assert len(errands) == 4  # what is left
    (folder,) = offline_runs(tmp_path)
    items = history(records(folder))
    assert [(item["step"], item["_step"], item["a"]) for item in items] == [(s, s, s / 2) for s in range(12)]
    times = [item["_timestamp"] for item in items]
    assert all(later - earlier >= 0.01 for earlier, later in pairwise(times[:11]))


def test_rows_before_a_checkpoint_are_handed_over_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed and goes on from its checkpoint must leave no gap."""
    batches: list[list[float]] = []
    monkeypatch.setattr(wandb_log, "GATHERED", math.inf)
    call = Clerk.call

    def counted(self: Clerk, method: str, *args: Any, **named: Any) -> Any:
        if method == "log":
            batches.append([row["step"] for row in args[0]])
        return call(self, method, *args, **named)

    monkeypatch.setattr(Clerk, "call", counted)
    words = [NO_FIGURE, "callbacks.checkpoint.every=4", "trainer.max_steps=10", OFFLINE, f"paths.wandb={tmp_path}"]
    trained(tmp_path / "run", *words)
    assert batches == [[0], [1, 2, 3], [4, 5, 6, 7], [8, 9], [10]]
