"""W&B works beside the program: for one run after the other, no longer than the program, and as if it were in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import wandb

from eoc.tracking import wandb_process
from eoc.tracking.wandb_log import WandbLog
from eoc.tracking.wandb_past import MARK, was_cut_off
from eoc.tracking.wandb_process import WandbFailure, hire
from support import clerks_of, gone_within
from tracking.inspecting import history, of_type, offline_runs, records

SOURCES = Path(__file__).resolve().parents[2] / "src"
PROGRAM = """
import os, signal, sys, time
from eoc.tracking.wandb_log import WandbLog

log = WandbLog(project="p", mode="offline", root=sys.argv[1])
log.log_metrics({"a": 1.0}, step=0)
while log.folder is None:
    time.sleep(0.01)
log.log_metrics({"a": 2.0}, step=1)
log.save()
time.sleep(0.5)  # it is handed over beside the program
log.log_metrics({"a": 3.0}, step=2)
print(os.getpid(), flush=True)
"""
ENDS = {
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "its whole group told to end": "os.killpg(0, signal.SIGTERM)",
    "without a word": "",
    "closed": "log.finish()",
}

pytestmark = pytest.mark.usefixtures("fresh_wandb")


def logged(root: Path, *steps: int) -> WandbLog:
    log = WandbLog(project="p", mode="offline", root=str(root))
    for step in steps:
        log.log_metrics({"a": 1.0}, step=step)
    return log


def ended(root: Path, program: str, *words: str) -> int:
    """Run a program until W&B has left it, too; return its process."""
    done = subprocess.run(
        [sys.executable, "-c", program, str(root), *words],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )
    assert done.stderr == ""
    process = int(done.stdout)
    gone_within(10, process)
    return process


@pytest.mark.parametrize("end", ENDS)
def test_a_run_is_closed_with_all_that_was_handed_over_however_its_program_ends(end: str, tmp_path: Path) -> None:
    ended(tmp_path, PROGRAM + ENDS[end])
    (folder,) = offline_runs(tmp_path)
    found = records(folder)
    rows = [item["step"] for item in history(found)]
    closed = end == "closed"
    assert rows == ([0, 1, 2] if closed else [0, 1])
    assert [record["exit_code"] for record in of_type(found, "exit")] == [0 if closed else 1]
    assert was_cut_off(tmp_path, of_type(found, "run")[0]["run_id"]) == (not closed)
    assert (folder / MARK).exists() == (not closed)


def test_a_program_that_keeps_one_for_its_next_run_ends_without_a_word(tmp_path: Path) -> None:
    program = "import warnings\nwarnings.simplefilter('error')\n" + PROGRAM + ENDS["closed"]
    ended(tmp_path, program)  # of which nothing is on stderr


def test_a_program_that_ends_at_once_leaves_no_run_behind(tmp_path: Path) -> None:
    told = "while log._clerk is None:\n    time.sleep(0.001)\ntime.sleep(0.05)\n"  # but not read: it imports W&B
    ended(tmp_path, PROGRAM.partition("while")[0] + told + "print(os.getpid(), flush=True)\nos.kill(os.getpid(), 9)")
    assert [next(folder.glob("*.wandb"), None) for folder in offline_runs(tmp_path)] == []


def test_runs_of_one_process_share_it_unless_what_wandb_reads_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    for entity in (None, None, "another"):
        if entity is not None:
            monkeypatch.setenv("WANDB_ENTITY", entity)
        logged(tmp_path, 0).finish()
        used += clerks_of(os.getpid())
    assert len(used) == 3  # one at a time
    assert used[0] == used[1] != used[2]
    assert [of_type(records(run), "run")[0].get("entity", "") for run in offline_runs(tmp_path)].count("another") == 1


@pytest.mark.parametrize("ended", ["service", "process"])
def test_what_ends_between_two_runs_is_started_anew(ended: str, tmp_path: Path) -> None:
    assert logged(tmp_path, 0).finish() is None
    (clerk,) = wandb_process._idle
    kept, service = clerk._process, clerk.service
    assert service is not None
    if ended == "service":
        os.kill(service, signal.SIGKILL)
    else:
        kept.kill()
        kept.wait()
    assert logged(tmp_path, 0, 1).finish() is None
    (now,) = wandb_process._idle
    assert (now is clerk) == (ended == "service")
    logs = [log for folder in offline_runs(tmp_path) for log in folder.glob("*.wandb")]
    assert sorted(len(history(records(log.parent))) for log in logs) == [1, 2]


def test_what_cannot_be_handed_over_is_said_and_the_next_run_is_logged(tmp_path: Path) -> None:
    log = logged(tmp_path)
    log.log_hyperparams({"rule": lambda: 0})

    def log_and_close() -> None:
        log.log_metrics({"a": 1.0}, step=0)
        log.finish()

    with pytest.warns(UserWarning, match=r"W&B stopped \(.*pickle"):
        log_and_close()
    assert logged(tmp_path, 0, 1).finish() is None
    (folder,) = offline_runs(tmp_path)
    assert len(history(records(folder))) == 2


def test_two_runs_at_a_time_have_one_each(tmp_path: Path) -> None:
    first, second = logged(tmp_path, 0), logged(tmp_path, 0)
    second.log_metrics({"a": 2.0}, step=1)
    first.finish()
    second.finish()
    assert sorted(len(history(records(folder))) for folder in offline_runs(tmp_path)) == [1, 2]
    wandb_process.dismiss()
    assert clerks_of(os.getpid()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_nothing_there_holds_or_mars_what_passes_between_the_two(tmp_path: Path) -> None:
    log = logged(tmp_path, 0)
    while log.folder is None:
        time.sleep(0.01)
    (clerk,) = clerks_of(os.getpid())
    assert [os.readlink(f"/proc/{clerk}/fd/{stream}") for stream in (0, 1, 2)] == [os.devnull] * 3
    log.finish()


def test_what_a_run_shows_is_its_program_and_not_the_process_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "model=nup", "seed=3"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "/a/train.py", raising=False)
    logged(tmp_path, 0).finish()
    (folder,) = offline_runs(tmp_path)
    shown = of_type(records(folder), "environment")[0]
    assert shown["args"] == ["model=nup", "seed=3"]
    assert shown["program"] == "/a/train.py"


@pytest.mark.usefixtures("wandb_here")
def test_what_a_run_uses_of_the_machine_is_what_its_program_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = []

    def opened(**given: Any) -> None:
        watched.append(given["settings"].x_stats_pid)
        raise RuntimeError("seen")

    monkeypatch.setattr(wandb, "init", opened)
    monkeypatch.setattr(os, "getpid", lambda: 4242)
    with pytest.warns(UserWarning, match="seen"):
        logged(tmp_path, 0).finish()
    assert watched == [4242]


def test_what_fails_there_is_said_here_and_what_comes_next_is_done() -> None:
    clerk = hire()
    with pytest.raises(WandbFailure, match="'Desk' object has no attribute 'dance'"):
        clerk.call("dance")
    assert clerk.call("close", 0) is None
    clerk.end()
    with pytest.raises(WandbFailure, match="its process has ended"):
        clerk.call("close", 0)


def test_who_stops_a_program_leaves_it_to_the_program_to_close_its_run(tmp_path: Path) -> None:
    log = logged(tmp_path, 0)
    while log.folder is None:
        time.sleep(0.01)
    (clerk,) = clerks_of(os.getpid())
    assert os.getpgid(clerk) != os.getpgid(0)  # a terminal's Ctrl-C does not reach it
    os.kill(clerk, signal.SIGINT)
    os.kill(clerk, signal.SIGTERM)
    assert log.finish() is None
    (folder,) = offline_runs(tmp_path)
    assert len(history(records(folder))) == 1
