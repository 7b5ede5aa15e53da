"""Against a stand-in of W&B's server: what it is told, how a run goes on, and what happens when something dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eoc.tracking import wandb_process
from eoc.tracking.run_folder import CHECKPOINT
from eoc.tracking.wandb_log import WandbLog
from support import NO_FIGURE, SMALL, Crash, Run, clerks_of, crash_at, killed, trained
from tracking.inspecting import FIGURE, history, of_type, offline_runs, public, records, rows_of
from tracking.stand_in import KEY, Server, serving

ROOT = Path(__file__).resolve().parents[2]
ONLINE = ("logger.wandb.mode=online", "logger.wandb.patience=20")
EVERY_TWO = "callbacks.checkpoint.every=2"

pytestmark = pytest.mark.usefixtures("fresh_wandb")


@pytest.fixture
def server(fresh_wandb: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:  # noqa: ARG001
    with serving() as running:
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield running


def streamed(server: Server, run_id: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.lines[run_id]["wandb-history.jsonl"]]


def timeless(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if not name.endswith("milliseconds")} for row in rows]


def test_the_server_is_told_group_tags_config_commit_history_and_files(server: Server, tmp_path: Path) -> None:
    words = ["logger.wandb.group=a sweep", "logger.wandb.entity=me", f"paths.wandb={tmp_path}", "schedule.kappa=2.25"]
    with warnings.catch_warnings(action="error"):
        run = trained(tmp_path / "run", *ONLINE, *words)
    ((run_id, told),) = server.runs.items()
    assert (told["groupName"], told["jobType"], told["project"], told["entity"]) == ("a sweep", "train", "eoc", "me")
    assert told["tags"] == ["nup", "geometric", "digits"]
    assert told["displayName"].startswith("nup-l3-m6-g2.0-geometric-digits-s0 ")
    config = json.loads(told["config"])
    assert config["schedule"]["value"]["kappa"] == 2.25
    assert config["paths"]["value"]["run"] == str(run.folder)
    assert config["_wandb"]["value"]["m"][1]["2"] == "*"  # every metric has step as its x axis
    rows = streamed(server, run_id)
    assert [public(row) for row in rows] == rows_of(run)
    assert rows[-1][FIGURE]["count"] == 1  # figures
    assert (run.folder / "summary.png").read_bytes() in server.files.values()
    assert {"config.yaml", "requirements.txt", "wandb-metadata.json"} <= server.files.keys()
    assert json.loads(server.lines[run_id]["wandb-summary.json"][0])["status"] == "completed"
    assert server.exits == {run_id: 0}


def test_a_service_that_ends_between_two_runs_is_not_taken_for_a_server_out_of_reach(
    server: Server, tmp_path: Path
) -> None:
    for run in ("first", "second"):
        log = WandbLog(project="p", mode="online", root=str(tmp_path), name=run, patience=20.0)
        log.log_metrics({"a": 1.0}, step=0)
        with warnings.catch_warnings(action="error"):
            assert log.finish() is None
        (clerk,) = wandb_process._idle
        assert clerk.service is not None
        os.kill(clerk.service, signal.SIGKILL)
    assert [(told["displayName"], server.exits[key]) for key, told in server.runs.items()] == [
        ("first", 0),
        ("second", 0),
    ]


def test_a_run_that_goes_on_is_the_same_one_and_nothing_of_it_is_left_out(server: Server, tmp_path: Path) -> None:
    words = [*ONLINE, NO_FIGURE, EVERY_TWO, f"paths.wandb={tmp_path}"]
    with pytest.raises(Crash):
        trained(tmp_path / "run", *words, then=crash_at(4))
    ((run_id, _),) = server.runs.items()
    assert server.exits.pop(run_id) == 1
    run = trained(tmp_path / "run", *words, ckpt_path=tmp_path / "run" / CHECKPOINT)
    assert list(server.runs) == [run_id]
    assert server.exits == {run_id: 0}
    rows = [public(row) for row in streamed(server, run_id)]
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8]  # step 4 is replayed
    last = {row["step"]: row for row in rows}  # readers keep the last row of a step
    assert timeless(list(last.values())) == timeless(rows_of(run))


def test_a_finished_run_that_goes_on_completes_its_last_row(server: Server, tmp_path: Path) -> None:
    words = [*ONLINE, NO_FIGURE, f"paths.wandb={tmp_path}"]
    trained(tmp_path / "run", *words)
    run = trained(tmp_path / "longer", *words, "trainer.max_steps=10", ckpt_path=tmp_path / "run" / CHECKPOINT)
    ((run_id, _),) = server.runs.items()
    last = {row["step"]: public(row) for row in streamed(server, run_id)}
    assert timeless(list(last.values())) == timeless(rows_of(run))
    assert "cosine/cumulative/all" in last[8]  # of the update that was taken only now


@pytest.mark.parametrize("when", ["opened", "early"])
def test_what_a_killed_run_had_not_sent_is_sent_when_it_goes_on(when: str, server: Server, tmp_path: Path) -> None:
    words = [*ONLINE, NO_FIGURE, EVERY_TWO, f"paths.wandb={tmp_path}", "trainer.max_steps=20"]
    killed(tmp_path / "run", when, *SMALL, *words)
    run = trained(tmp_path / "run", *words, ckpt_path=tmp_path / "run" / CHECKPOINT)
    ((run_id, lines),) = server.lines.items()
    rows = [public(json.loads(line)) for line in lines["wandb-history.jsonl"]]
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(steps)
    assert set(steps) == set(range(21))
    last = {row["step"]: row for row in rows}
    assert timeless(list(last.values())) == timeless(rows_of(run))
    trained(tmp_path / "longer", *words, "trainer.max_steps=22", ckpt_path=tmp_path / "run" / CHECKPOINT)
    assert len(server.lines[run_id]["wandb-history.jsonl"]) == len(rows) + 3  # 20 again, 21, 22: nothing was left out


@pytest.mark.parametrize("when", ["opened", "early"])
def test_what_a_killed_run_had_not_written_is_logged_when_it_goes_on(when: str, tmp_path: Path) -> None:
    words = ["logger.wandb.mode=offline", NO_FIGURE, EVERY_TWO, f"paths.wandb={tmp_path}", "trainer.max_steps=20"]
    killed(tmp_path / "run", when, *SMALL, *words)
    before = offline_runs(tmp_path)
    run = trained(tmp_path / "run", *words, ckpt_path=tmp_path / "run" / CHECKPOINT)
    (after,) = [folder for folder in offline_runs(tmp_path) if folder not in before]
    written = [folder for folder in before if next(folder.glob("*.wandb"), None)]
    rows = [row for folder in (*written, after) for row in history(records(folder))]
    last = {row["step"]: public(row) for row in rows}
    assert timeless(list(last.values())) == timeless(rows_of(run))
    assert len(history(records(after))) == 21
    trained(tmp_path / "longer", *words, "trainer.max_steps=22", ckpt_path=tmp_path / "run" / CHECKPOINT)
    (latest,) = [folder for folder in offline_runs(tmp_path) if folder not in {*before, after}]
    assert [row["step"] for row in history(records(latest))] == [20, 21, 22]


# -- failures ------------------------------------------------------------------------------------------------------


def service_of(clerk: int) -> int:
    """The process of W&B's service that one in which W&B works has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, parent = (folder / "comm").read_text().strip(), (folder / "stat").read_text().split()[3]
        except OSError:
            continue  # it has just ended
        if (name, int(parent)) == ("wandb-core", clerk):
            return int(folder.name)
    raise AssertionError("it has not been started")


def is_there(process: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def complete(run: Run) -> bool:
    return run.summary["status"] == "completed" and run.columns["step"] == list(range(9))


def seconds_of(errand: Callable[[], object]) -> float:
    start = time.perf_counter()
    errand()
    return time.perf_counter() - start


def test_without_a_key_a_run_is_logged_offline(
    tmp_path: Path,
) -> None:
    with pytest.warns(UserWarning, match=r"W&B cannot be reached \(No API key configured.*logged offline") as warned:
        run = trained(tmp_path / "run", NO_FIGURE, *ONLINE, f"paths.wandb={tmp_path}")
    assert len(warned) == 1
    assert complete(run)
    (folder,) = offline_runs(tmp_path)
    assert f"`wandb sync {folder}`" in str(warned[0].message)
    assert [public(item) for item in history(records(folder))] == rows_of(run)


@pytest.mark.parametrize("network", ["refused", "silent"])
def test_without_a_network_a_run_is_logged_offline(
    network: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes what comes and says nothing
        port = silent.getsockname()[1] if network == "silent" else 9
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        words = [NO_FIGURE, "logger.wandb.mode=online", "logger.wandb.patience=1", f"paths.wandb={tmp_path}"]
        with pytest.warns(UserWarning, match="W&B cannot be reached") as warned:
            run = trained(tmp_path / "run", *words)
    assert len(warned) == 1
    assert complete(run)
    (folder,) = offline_runs(tmp_path)
    assert [public(item) for item in history(records(folder))] == rows_of(run)


def test_a_server_that_dies_is_waited_for_no_longer_than_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with serving() as running:
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        log = WandbLog(project="eoc", mode="online", root=str(tmp_path), patience=2.0)
        log.log_metrics({"a": 1.0}, step=0)
        while not running.runs:
            time.sleep(0.05)
        time.sleep(0.5)
    for step in range(1, 5):
        log.log_metrics({"a": 1.0}, step=step)
    with pytest.warns(UserWarning, match=r"W&B stopped \(.*\); metrics.csv has every value.*`wandb sync ") as warned:
        assert seconds_of(log.finish) < 6.0
    assert len(warned) == 1
    (folder,) = (tmp_path / "wandb").glob("run-*")
    assert [item["step"] for item in history(records(folder))] == [0, 1, 2, 3, 4]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for W&B's processes in /proc")
@pytest.mark.parametrize("struck", ["service", "clerk"])
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hanging"])
def test_a_process_that_crashes_or_hangs_stops_nothing_and_the_next_run_has_a_new_one(
    blow: signal.Signals, struck: str, tmp_path: Path
) -> None:
    there: list[int] = []

    def strike(module: Any, t: int) -> None:
        if t == 4:
            (log,) = (logger for logger in module.trainer.loggers if isinstance(logger, WandbLog))
            while log.folder is None:  # W&B starts beside the run
                time.sleep(0.01)
            (clerk,) = clerks_of(os.getpid())
            there.extend([clerk, service_of(clerk)])
            os.kill(there[struck == "service"], blow)

    words = [NO_FIGURE, "logger.wandb.mode=offline", "logger.wandb.patience=2", f"paths.wandb={tmp_path}"]
    with pytest.warns(UserWarning, match="W&B stopped") as warned:
        run = trained(tmp_path / "run", *words, then=strike)
    assert len(warned) == 1
    assert complete(run)
    time.sleep(1.0 if struck == "clerk" else 0.0)  # the service looks for it now and then
    assert not any(map(is_there, there))
    before = offline_runs(tmp_path)
    following = trained(tmp_path / "next", *words)
    (folder,) = set(offline_runs(tmp_path)) - set(before)
    assert [public(item) for item in history(records(folder))] == rows_of(following)


def test_a_full_folder_is_said(
    tmp_path: Path,
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = [shutil.which("mount") or "mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(small)]
    try:
        subprocess.run(mount, check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("this user cannot mount a folder of 96 kB")
    try:
        words = [NO_FIGURE, "logger.wandb.mode=offline", f"paths.wandb={small}", "trainer.max_steps=60"]
        with pytest.warns(UserWarning, match="W&B stopped") as warned:
            run = trained(tmp_path / "run", *words)
        assert len(warned) == 1
        assert run.columns["step"] == list(range(61))
        (folder,) = offline_runs(small)
        assert len(history(records(folder))) < 61
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True, timeout=10)


def test_the_jobs_of_a_sweep_are_runs_of_their_own_in_one_group(tmp_path: Path) -> None:
    words = ["-m", "seed=0,1", "dataset.n_train=60", "trainer.max_steps=2", "callbacks=none", f"paths.root={tmp_path}"]
    folder = "hydra.sweep.dir=${paths.runs}/sweeps/mine"
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *words, folder],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = [records(folder) for folder in offline_runs(tmp_path / "runs")]
    opened = [of_type(one, "run")[0] for one in found]
    assert [run["run_group"] for run in opened] == ["sweeps/mine"] * 2
    assert {run["display_name"].partition(" ")[0][-2:] for run in opened} == {"s0", "s1"}
    assert all(run["display_name"].endswith(" dataset.n_train=60 trainer.max_steps=2") for run in opened)
    assert len({run["run_id"] for run in opened}) == 2
    assert [len(history(one)) for one in found] == [3, 3]
