"""Sweeps on a real SLURM: a job requeued in its middle, one killed, one whose time is up; jobs with a GPU each."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from eoc.analysis import read_runs
from eoc.tracking.claim import is_claimed
from eoc.tracking.run_folder import CHECKPOINT, FAILED, LOCK, METRICS, SETTINGS, SUMMARY, read_metrics, read_settings
from slurm.cluster import client, cluster
from support import trained

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    *("dataset.n_train=60", "dataset.n_test=40", "model.depth=3", "model.width=6", "logger=csv"),
    *("~callbacks.summary_figure", "~callbacks.curvature", "callbacks.checkpoint.every=20", "trainer.max_steps=800"),
)
QUEUE = (
    *("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2"),
    *("hydra.launcher.timeout_min=30", "hydra.launcher.signal_delay_s=10"),
)


@pytest.fixture(scope="module")
def slurm() -> Iterator[Mapping[str, str]]:
    with tempfile.TemporaryDirectory(prefix="slurm") as folder, cluster(Path(folder), cores=2) as environment:
        python_path = os.pathsep.join([str(ROOT / "src"), environment.get("PYTHONPATH", "")])
        try:
            yield {**environment, "PYTHONPATH": python_path, "OMP_NUM_THREADS": "1"}
        finally:
            subprocess.run(["scancel", "--user=root"], env=environment, timeout=30, check=False)
            time.sleep(2.0)  # for the last steps to be gone before their daemon is


def command(sweep: Path, *overrides: str) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), "-m", *SMALL, f"hydra.sweep.dir={sweep}", *overrides]


def folder_of(sweep: Path, seed: int) -> Path | None:
    for settings in sweep.glob(f"*/{SETTINGS}"):
        if read_settings(settings.parent)["config"]["seed"] == seed:
            return settings.parent
    return None


def wait_for(what: Callable[[], object], driver: subprocess.Popen[str], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.1)


def test_a_sweep_survives_a_requeue_and_a_kill_and_is_completed_by_the_same_command(slurm, tmp_path):
    sweep, alone = tmp_path / "sweep", tmp_path / "alone"
    driver = subprocess.Popen(
        command(sweep, *QUEUE, "seed=0,1,2"), env=slurm, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: (folder := folder_of(sweep, 0)) and (folder / CHECKPOINT).exists(), driver)
        (array,) = {job.partition("_")[0] for job in client(slurm, "squeue", "--noheader", "--format=%i").split()}
        client(slurm, "scancel", "--signal=USR2", f"{array}_0")
        wait_for(lambda: (folder := folder_of(sweep, 1)) and (folder / CHECKPOINT).exists(), driver)
        holder = (folder_of(sweep, 1) / LOCK).read_text()
        os.kill(int(re.search(r"process (\d+)", holder).group(1)), signal.SIGKILL)
        out, err = driver.communicate(timeout=240)
    finally:
        driver.kill()
    assert driver.returncode == 2, out + err
    assert "3 jobs: 2 completed, 1 failed" in out, out + err
    assert "failed    seed=1: the process that ran it ended without a word" in out
    assert (folder_of(sweep, 1) / FAILED).exists()

    logs = "".join(path.read_text() for path in sweep.glob(f".submitit/{array}_0/*.out"))
    assert re.search(r"Going on from step \d+0 of", logs), logs
    trained(alone, *SMALL, "seed=0", small=False)
    assert (folder_of(sweep, 0) / METRICS).read_bytes() == (alone / METRICS).read_bytes()

    stamps = {seed: (folder_of(sweep, seed) / SUMMARY).stat().st_mtime_ns for seed in (0, 2)}
    done = subprocess.run(command(sweep, *QUEUE, "seed=0,1,2"), env=slurm, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 finished before, 1 to run" in done.stdout
    assert {seed: (folder_of(sweep, seed) / SUMMARY).stat().st_mtime_ns for seed in (0, 2)} == stamps
    runs = read_runs(sweep)
    assert sorted(runs["seed"]) == [0, 1, 2]
    assert set(runs["status"]) == {"completed"}
    assert set(runs["steps"]) == {800}
    assert not any(is_claimed(Path(path)) for path in runs["path"])
    assert client(slurm, "squeue", "--noheader") == ""


def test_the_gpu_preset_gives_each_job_a_gpu_of_its_own(slurm, tmp_path):
    queue = ["hydra/launcher=slurm_gpu", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2"]
    setup = r"hydra.launcher.setup=['echo devices: $CUDA_VISIBLE_DEVICES']"
    words = command(tmp_path, *queue, setup, "trainer.max_steps=100", "seed=0,1")
    driver = subprocess.Popen(words, env=slurm, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    seen: list[list[str]] = []
    try:
        while driver.poll() is None:
            seen.append(client(slurm, "squeue", "--noheader", "--array", "--states=running", "--format=%b").split())
            time.sleep(0.2)
        out, err = driver.communicate(timeout=240)
    finally:
        driver.kill()
    assert driver.returncode == 0, out + err
    assert "2 jobs: 2 completed" in out
    # There are cores for both jobs at once, but one GPU: they ran one after the other, each on it.
    assert [name.replace("/", ":") for name in max(seen, key=len)] == ["gres:gpu:1"]
    logs = [path.read_text() for path in tmp_path.glob(".submitit/*/*.out")]
    assert sum("devices: 0" in log for log in logs) == 2, logs


def test_a_job_whose_time_is_up_is_requeued_by_slurm_and_goes_on(slurm, tmp_path):
    sweep = tmp_path / "sweep"
    # SLURM looks every 30 s, and signals as soon as less than 30 s and the delay are left: here 29 to 59 s after the
    # start, when Python listens, and a look before the end. With a longer delay it may be at the start.
    time_up = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=1", "hydra.launcher.max_num_timeout=50"]
    long = ["trainer.max_steps=9000", "callbacks.checkpoint.every=500"]
    words = command(sweep, *QUEUE, *time_up, *long, "seed=0")
    done = subprocess.run(words, env=slurm, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    logs = "".join(path.read_text() for path in sweep.glob(".submitit/*/*") if path.suffix in {".out", ".err"})
    assert "time-out" in logs.lower() or "timed-out" in logs.lower(), logs
    assert re.search(r"Going on from step \d+00 of", logs), logs
    (run,) = read_runs(sweep).to_dict("records")
    assert (run["status"], run["steps"]) == ("completed", 9000)
    steps = read_metrics(folder_of(sweep, 0))["step"]
    assert steps == sorted(set(steps))
