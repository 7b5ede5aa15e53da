"""A sweep survives its jobs, goes on where it stopped, and says what became of each."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

import eoc.training.run as run_room
import eoc.training.sweep.drive as drive_room
from eoc.analysis import read_runs
from eoc.errors import RunFailure
from eoc.tracking.claim import claimed, is_claimed
from eoc.tracking.csv_log import CSVLog
from eoc.tracking.run_folder import (
    CHECKPOINT,
    FAILED,
    LOCK,
    METRICS,
    SETTINGS,
    SUMMARY,
    read_metrics,
    read_settings,
    read_summary,
    write_json,
)
from eoc.training.callbacks import DivergenceCallback
from eoc.training.door import record_failure
from eoc.training.sweep.jobs import Job, Outcome
from eoc.training.sweep.report import overhead_of, report
from eoc.training.sweep.search import conclude
from support import Crash, before_the_door, called, crash_at, trained

ROOT = Path(__file__).resolve().parents[3]
SMALL = (
    *("dataset.n_train=30", "dataset.n_test=20", "model.depth=3", "model.width=4", "trainer.max_steps=4"),
    *("logger=csv", "~callbacks.summary_figure", "callbacks.checkpoint.every=1", "~callbacks.curvature"),
)


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable:
    """Run ``python train.py -m`` into one folder in this process; returns exit code, stdout and stderr."""
    before_the_door(monkeypatch)

    def call(*overrides: str) -> tuple[object, str, str]:
        folders = [f"paths.runs={tmp_path / 'runs'}", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
        return called(monkeypatch, capsys, "-m", *SMALL, *folders, *overrides)

    return call


def folders(tmp_path: Path) -> dict[int, Path]:
    """The run folders of a sweep by their seed."""
    paths = [path.parent for path in (tmp_path / "sweep").rglob(SETTINGS)]
    return {read_settings(path)["config"]["seed"]: path for path in paths}


def sabotage(monkeypatch: pytest.MonkeyPatch, seed: int, act: Callable[[], Any]) -> None:
    """Let the job of one seed do something else than build its trainer."""
    build = run_room.build_trainer

    def bad(config: Any, *args: Any) -> Any:
        return act() if config.seed == seed else build(config, *args)

    monkeypatch.setattr(run_room, "build_trainer", bad)


def test_a_bug_and_an_exit_are_recorded_and_the_others_go_on(sweep, tmp_path, monkeypatch):
    sabotage(monkeypatch, 0, lambda: {}["a bug"])
    code, out, _ = sweep("seed=0,1")
    assert code == 2
    assert "2 jobs: 1 completed, 1 failed" in out
    assert "failed    seed=0: KeyError: 'a bug'" in out
    text = (folders(tmp_path)[0] / FAILED).read_text()
    assert text.startswith("KeyError: 'a bug'\n\nTraceback (most recent call last):\n")
    assert "in build_trainer" not in text
    assert text.endswith("KeyError: 'a bug'\n")

    sabotage(monkeypatch, 2, lambda: sys.exit(3))
    code, out, _ = sweep("seed=1,2,3")
    assert code == 2
    assert "3 jobs: 2 completed, 1 failed" in out
    assert (folders(tmp_path)[2] / FAILED).read_text() == "The run was ended by exit(3).\n"


def test_the_same_command_runs_what_is_left_and_a_larger_grid_keeps_its_cells(sweep, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        sabotage(patch, 1, lambda: {}["a bug"])
        sweep("seed=0,1")
    first = folders(tmp_path)
    stamp = (first[0] / METRICS).stat().st_mtime_ns
    loads: list[Any] = []
    build = run_room.build_module
    monkeypatch.setattr(run_room, "build_module", lambda config: loads.append(config.seed) or build(config))
    code, out, err = sweep("seed=2,1,0")
    assert (code, err) == (0, "")
    assert "3 jobs in" in out
    assert "1 finished before, 2 to run" in out
    assert "3 jobs: 3 completed" in out
    assert sorted(loads) == [1, 2]
    assert (first[0] / METRICS).stat().st_mtime_ns == stamp
    now = folders(tmp_path)
    assert {seed: now[seed] for seed in first} == first
    assert not (now[1] / FAILED).exists()


def test_several_grids_are_run_as_their_union(sweep, tmp_path):
    grids = "hydra.sweeper.grids=[{seed: '0,1'}, {seed: '1,2', optimizer: momentum}, {seed: '1'}]"
    code, out, _ = sweep(grids)
    assert code == 0
    assert "4 jobs: 4 completed" in out  # seed 1 is in two of them
    runs = read_runs(tmp_path / "sweep")
    found = sorted(zip(runs["seed"], runs["optimizer"], strict=True))
    assert found == [(0, "sgd"), (1, "momentum"), (1, "sgd"), (2, "momentum")]
    assert "others" not in out
    _, out, _ = sweep("seed=1,5")
    assert "others    3 runs of other settings lie in the same folder, and count in its tables" in out


@pytest.mark.parametrize(
    ("chosen", "growths"),
    [("nup", [0, 1]), ("ntp", [2, 3]), ("mup,sp", [2, 2]), ("sp", [0, 1, 2, 3]), ("nup,ntp", [0, 0, 1, 1, 2, 2, 3, 3])],
)
def test_a_choice_on_the_command_line_leaves_out_the_grids_of_others(chosen, growths, sweep, tmp_path):
    grids = "{model: 'mup, ntp', model.growth: 2}, {model: nup, model.growth: '0,1'}, {model: ntp, model.growth: 3}"
    code, _, _ = sweep(f"hydra.sweeper.grids=[{grids}]", f"model={chosen}", "trainer.max_steps=1")
    assert code == 0
    runs = read_runs(tmp_path / "sweep")
    assert sorted(runs["model.growth"]) == growths
    assert set(runs["model"]) == set(chosen.split(","))


def test_a_value_on_the_command_line_leaves_out_no_grid(sweep, tmp_path):
    grids = "{model: 'mup,ntp', model.growth: 2}, {model: nup, model.growth: '0,1'}"
    code, _, _ = sweep(f"hydra.sweeper.grids=[{grids}]", "model.growth=1", "trainer.max_steps=1")
    assert code == 0
    runs = read_runs(tmp_path / "sweep")
    assert sorted(zip(runs["model"], runs["model.growth"], strict=True)) == [("mup", 1), ("ntp", 1), ("nup", 1)]


def test_a_job_that_was_cut_off_goes_on_and_equals_one_that_was_not(sweep, tmp_path, monkeypatch):
    code, _, _ = sweep("seed=0")
    assert code == 0
    (folder,) = folders(tmp_path).values()
    expected = (folder / METRICS).read_bytes()
    final = json.loads((folder / SUMMARY).read_text())["final"]
    shutil.rmtree(folder)

    write, crashed = CSVLog.log_metrics, []

    def crash_once(self: CSVLog, metrics: dict[str, float], step: int | None = None) -> None:
        if step == 2 and not crashed:
            crashed.append(step)
            raise Crash
        write(self, metrics, step)

    monkeypatch.setattr(CSVLog, "log_metrics", crash_once)
    code, out, _ = sweep("seed=0")
    assert "1 failed" in out
    assert (folder / CHECKPOINT).exists()
    code, out, _ = sweep("seed=0")
    assert code == 0
    assert "Going on from step 2" in out
    assert (folder / METRICS).read_bytes() == expected
    assert json.loads((folder / SUMMARY).read_text())["final"] == final


def test_a_run_that_was_cut_off_behind_its_last_step_is_made_anew(sweep, tmp_path):
    sweep("seed=0")
    (folder,) = folders(tmp_path).values()
    (folder / SUMMARY).unlink()
    code, out, _ = sweep("seed=0")
    assert code == 0
    assert "Going on" not in out
    assert read_metrics(folder)["step"] == [0, 1, 2, 3, 4]


def test_without_resume_a_finished_folder_is_refused_and_stays_finished(sweep, tmp_path):
    sweep("seed=0")
    code, out, err = sweep("seed=0,1", "sweep.resume=false")
    assert code == 2
    assert "1 of 2 jobs have no result of this command yet; the same command with sweep.resume=true" in err
    done = folders(tmp_path)
    assert "2 jobs: 1 completed, 1 failed" in out
    assert f"failed    seed=0: {done[0]} holds a finished run, and sweep.resume is false" in out
    assert not any((folder / FAILED).exists() for folder in done.values())
    assert sweep("seed=0,1")[0] == 0


def test_without_resume_a_folder_that_was_cut_off_is_refused_and_kept(sweep, tmp_path, monkeypatch):
    sabotage(monkeypatch, 0, lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    sweep("seed=0")
    monkeypatch.undo()
    (folder,) = folders(tmp_path).values()
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    code, out, _ = sweep("seed=0,1", "sweep.resume=false")
    assert code == 2
    assert f"failed    seed=0: {folder} holds a run that was cut off, and sweep.resume is false" in out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == kept


def test_without_resume_a_folder_in_which_another_works_is_no_failure(sweep, tmp_path):
    sweep("seed=0")
    (folder,) = folders(tmp_path).values()
    (folder / SUMMARY).unlink()
    with claimed(folder):
        _, out, _ = sweep("seed=0", "sweep.resume=false")
    assert "1 jobs: 1 running" in out


def test_different_jobs_for_one_folder_are_refused(sweep, tmp_path):
    code, out, _ = sweep("model.depth=3,4", "seed=0,1", "hydra.sweep.subdir=depth${model.depth}")
    assert code == 2
    assert "4 jobs: 2 completed, 2 failed" in out
    said = "hydra.sweep.subdir=depth3 is not possible: it is the folder of a job of other settings too"
    assert f"failed    model.depth=3 seed=1: {said}" in out
    assert len(folders(tmp_path)) == 1  # both of seed 0


@pytest.mark.parametrize(("subdir", "places"), [("${hydra.job.num}", ["0", "1"]), ("ABOVE/${seed}", ["0", "1"])])
def test_hydras_own_names_of_folders_can_be_used(sweep, tmp_path, subdir, places):
    above = tmp_path / "elsewhere"
    code, out, _ = sweep("seed=0,1", f"hydra.sweep.subdir={subdir.replace('ABOVE', str(above))}")
    assert code == 0, out
    root = above if "ABOVE" in subdir else tmp_path / "sweep"
    assert sorted(path.parent.name for path in root.glob(f"*/{SUMMARY}")) == places


def test_a_job_of_a_sweep_starts_no_processes(sweep):
    code, out, _ = sweep("seed=0", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    assert code == 2
    assert "trainer.devices=2 is not possible: a job of a sweep is one process, unless the launcher starts more" in out


def test_a_folder_with_another_finished_run_is_not_taken_for_ones_own(sweep):
    assert sweep("seed=0", "hydra.sweep.subdir=same")[0] == 0
    assert sweep("seed=0", "hydra.sweep.subdir=same")[0] == 0
    code, out, _ = sweep("seed=1", "hydra.sweep.subdir=same")
    assert code == 2
    assert "hydra.sweep.subdir=same is not possible: it holds a finished run of other settings" in out
    assert sweep("seed=0", "hydra.sweep.subdir=same")[0] == 0  # whose folder it still is, unharmed


def test_a_folder_in_which_another_process_works_is_left_alone(sweep, tmp_path):
    sweep("seed=0")
    (folder,) = folders(tmp_path).values()
    (folder / SUMMARY).unlink()
    with claimed(folder):
        code, out, _ = sweep("seed=0,1")
    assert code == 2
    assert "2 jobs: 1 completed, 1 running" in out
    assert not (folder / SUMMARY).exists()
    assert not (folder / FAILED).exists()


def test_cells_with_equal_settings_are_one_job(sweep, tmp_path):
    code, out, _ = sweep("model.growth=2,2.0", "seed=0")
    assert code == 0
    assert "1 more have the settings of another" in out
    assert len(folders(tmp_path)) == 1


def test_a_jobs_line_tells_the_settings_that_vary(sweep):
    _, out, _ = sweep("schedule.kappa=1.5,2.25", "seed=3")
    lines = [text for text in out.splitlines() if ": completed, " in text]
    assert [name.partition(": completed")[0].partition("digits-s3 ")[2].split()[-1] for name in lines] == [
        "schedule.kappa=1.5",
        "schedule.kappa=2.25",
    ]


def test_diverged_runs_are_results(sweep):
    code, out, _ = sweep("schedule=constant", "schedule.rate=0.1,1e9")
    assert code == 0
    assert "2 jobs: 1 completed, 1 diverged" in out
    assert re.search(r"diverged  schedule.rate=1e9|diverged  schedule.rate=1000000000.0", out)


def test_a_run_that_was_stopped_is_counted_as_such_and_stays(sweep, monkeypatch):
    def stop(_: DivergenceCallback, module: Any) -> None:
        module.trainer.should_stop = True

    monkeypatch.setattr(DivergenceCallback, "after_step", stop)
    code, out, err = sweep("seed=0,1")
    assert (code, err) == (0, "")
    assert "2 jobs: 2 stopped" in out
    assert re.findall(r"^stopped +(.*)$", out, re.MULTILINE) == ["seed=0: at step 1", "seed=1: at step 1"]
    assert "2 finished before, 0 to run" in sweep("seed=0,1")[1]


def test_a_single_run_that_was_cut_off_goes_on_too(tmp_path):
    every = "callbacks.checkpoint.every=1"
    with pytest.raises(Crash):
        trained(tmp_path / "run", every, then=crash_at(4))
    run = trained(tmp_path / "run", every)
    assert run.module.first_step == 4
    whole = trained(tmp_path / "whole", every).columns
    same = [name for name in whole if "milliseconds" not in name]
    for name in same:
        assert run.columns[name] == pytest.approx(whole[name], rel=0, nan_ok=True), name


def test_a_lock_ends_with_its_process(tmp_path):
    hold = (
        "import sys, time; from pathlib import Path; from eoc.tracking.claim import claimed\n"
        "with claimed(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout.readline() == "held\n"
        assert is_claimed(tmp_path)
        assert str(process.pid) in (tmp_path / LOCK).read_text()
        os.kill(process.pid, signal.SIGKILL)
    assert not is_claimed(tmp_path)
    with claimed(tmp_path), (tmp_path / LOCK).open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_overhead_is_what_lies_between_the_ends_of_a_processes_jobs():
    def job(process: str, ended: float, training: float) -> dict[str, Any]:
        return {"process": process, "ended": ended, "training_seconds": training}

    jobs = [job("a", 10.0, 5.0), job("b", 3.0, 2.0), job("a", 13.0, 2.5), job("a", 20.0, 6.4), job("a", 21.0, 0.1)]
    assert overhead_of(jobs) == pytest.approx(0.6)
    assert overhead_of(jobs[:2]) is None


@pytest.mark.parametrize("content", [b"", b'{"status": "comp', b"[]", b"{}", b"\xff"])
def test_a_damaged_summary_is_no_result_and_its_job_runs_again(sweep, tmp_path, content):
    sweep("seed=0")
    (folder,) = folders(tmp_path).values()
    final = read_summary(folder)["final"]
    (folder / SUMMARY).write_bytes(content)
    code, out, _ = sweep("seed=0,1")
    assert code == 0
    assert f"{folder / SUMMARY} is damaged: " in out
    assert "2 jobs: 2 completed" in out
    assert read_summary(folder)["final"] == final


@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_processes_that_die_before_they_begin_a_job_are_started_again(tmp_path, deaths):
    (tmp_path / "job").mkdir()
    job = Job(0, [], tmp_path / "job", identity="x")
    launches: list[int] = []

    def launch(jobs: list[Job]) -> None:
        launches.append(len(jobs))
        if len(launches) <= deaths:
            raise BrokenProcessPool("killed")
        (tmp_path / "job" / FAILED).write_text("it ended")

    if deaths < 3:
        drive_room._launch([job], launch)
        assert launches == [1] * (deaths + 1)
    else:
        with pytest.raises(RunFailure, match=r"^Processes died 3 times before they had begun a job: killed$"):
            drive_room._launch([job], launch)


@pytest.mark.parametrize("key", ["logger.csv.folder", "paths.checkpoints"])
def test_jobs_that_would_keep_their_own_in_one_place_are_refused(sweep, tmp_path, key):
    code, out, _ = sweep("seed=0,1", f"{key}={tmp_path / 'one'}")
    assert code == 2
    named = "callbacks.checkpoint.folder" if key == "paths.checkpoints" else key
    assert f"failed    seed=1: {named}={tmp_path / 'one'} is not possible: a job of other settings keeps" in out
    assert "2 jobs: 1 completed, 1 failed" in out
    code, out, _ = sweep("seed=2,3", f"{key}={tmp_path}/${{seed}}")
    assert (code, "2 jobs: 2 completed" in out) == (0, True)
    code, out, _ = sweep("seed=2,3", f"{key}={tmp_path / 'one'}")  # they have their results
    assert (code, "2 jobs: 2 completed" in out) == (0, True)
    code, out, _ = sweep("seed=4,5", f"{key}=20240101")
    assert code == 2
    assert "must be" in out


def test_a_sweep_chooses_the_folders_of_its_jobs(sweep, tmp_path):
    code, out, _ = sweep("seed=0,1", f"paths.run={tmp_path}/${{seed}}")
    assert code == 2
    assert f"failed    seed=0: paths.run={tmp_path / '0'} is not possible: a sweep gives each job a folder" in out
    assert "2 jobs: 2 failed" in out


def test_a_search_names_damaged_settings_and_counts_the_other_jobs(tmp_path, capsys):
    for name in ("a", "b"):
        trained(tmp_path / name, *SMALL, small=False)
    (tmp_path / "a" / SETTINGS).write_text("[]")
    capsys.readouterr()
    with pytest.raises(RunFailure, match="1 of 2 jobs have no result"):
        conclude(tmp_path, "test/loss")
    out = capsys.readouterr().out
    assert "2 jobs: 1 completed, 1 failed" in out
    assert f"failed    a: {tmp_path / 'a' / SETTINGS} is damaged: it is no JSON object." in out


def test_a_finished_run_of_unknown_settings_is_left_alone_and_the_others_go_on(sweep, tmp_path):
    sweep("seed=0")
    (folder,) = folders(tmp_path).values()
    (folder / SETTINGS).write_text("")
    kept = (folder / SUMMARY).read_bytes()
    code, out, _ = sweep("seed=0,1")
    assert code == 2
    assert "2 jobs: 1 completed, 1 failed" in out
    assert f"failed    seed=0: {folder / SETTINGS} is damaged: it is empty. Whose finished run lies there is not" in out
    assert (folder / SUMMARY).read_bytes() == kept


def test_of_jobs_that_were_not_begun_the_first_are_named_and_all_that_were_cut_off(tmp_path):
    jobs = [Job(number, [], tmp_path / str(number), words=f"seed={number}") for number in range(100)]
    ends = {number: Outcome("missing", "cut off" if number % 30 == 29 else "not begun") for number in range(100)}
    rows = report(jobs, ends, set(), 0, tmp_path, 1.0).splitlines()
    missing = [row for row in rows if row.startswith("missing ")]
    assert rows[1] == "100 jobs: 100 missing"
    assert [row for row in missing if "cut off" in row] == [f"missing   seed={n}: cut off" for n in (29, 59, 89)]
    assert [row for row in missing if "not begun" in row] == [f"missing   seed={n}: not begun" for n in range(20)]
    assert missing[-1] == "missing   and 77 more"


@pytest.mark.parametrize(
    ("makes_files", "row"),
    [(True, "failed    seed=0: no reason was written"), (False, "missing   seed=0: cut off")],
)
def test_a_full_disk_keeps_no_reason_from_being_said_and_no_job_from_running(
    sweep, tmp_path, monkeypatch, recwarn, makes_files, row
):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    write = Path.write_text

    def write_text(self: Path, text: str, *args: Any, **kwargs: Any) -> int:
        if self.name == FAILED:
            if makes_files:
                self.touch()
            raise full
        return write(self, text, *args, **kwargs)

    def fail() -> None:
        raise full

    sabotage(monkeypatch, 0, fail)
    monkeypatch.setattr(Path, "write_text", write_text)
    code, out, err = sweep("seed=0,1")
    assert code == 2
    assert "failed: the run cannot go on, No space left on device: make room, or choose another place" in err
    assert row in out
    assert "1 completed" in out
    assert not [str(each.message) for each in recwarn if "Callback" in str(each.message)]
    assert (folders(tmp_path)[0] / FAILED).exists() == makes_files


def test_a_finished_run_has_not_failed_whoever_was_refused_there(tmp_path):
    record_failure(tmp_path, ValueError("no"))
    assert (tmp_path / FAILED).read_text().startswith("ValueError: no\n")
    (tmp_path / FAILED).unlink()
    summary = {"status": "completed", "diverged": None, "steps": 3, "final": {}, "best": {}}
    write_json(tmp_path / SUMMARY, {**summary, "wall_seconds": 1.5, "parameters": 7})
    record_failure(tmp_path, ValueError("no"))
    assert not (tmp_path / FAILED).exists()


def test_a_folder_below_a_file_has_no_damaged_result(tmp_path):
    (tmp_path / "file").write_text("")
    assert drive_room.damaged_result(tmp_path / "file" / "job") is None
