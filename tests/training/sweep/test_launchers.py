"""Parallel processes, submitit's and a search: a job that is killed or diverges takes no other with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import hydra_plugins.eoc_sweeps.queue as queue
from eoc.errors import InvalidInput, RunFailure
from eoc.tracking.run_folder import FAILED, SETTINGS, SUMMARY, read_settings
from eoc.training.sweep.settings import check_sweep

ROOT = Path(__file__).resolve().parents[3]
SMALL = (
    *("dataset.n_train=30", "dataset.n_test=20", "model.depth=3", "model.width=4", "trainer.max_steps=4"),
    *("logger=csv", "callbacks=none"),
)


def swept(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """Run ``python train.py -m`` into ``folder / "sweep"``."""
    command = [sys.executable, str(ROOT / "train.py"), "-m", *SMALL, f"hydra.sweep.dir={folder / 'sweep'}", *overrides]
    paths = os.pathsep.join([str(ROOT / "src"), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=400)


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_sweep_that_is_told_no_folder_makes_one_of_its_own(tmp_path, launcher):
    command = [sys.executable, str(ROOT / "train.py"), "-m", *SMALL, "seed=0,1", f"hydra/launcher={launcher}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = tmp_path.glob("runs/sweeps/*/*")
    assert f"results   {folder}" in done.stdout
    assert len(list(folder.glob(f"*/{SUMMARY}"))) == 2


def seeds(folder: Path, file: str) -> set[int]:
    """The seeds of the jobs that left ``file``."""
    paths = [path.parent for path in (folder / "sweep").glob(f"*/{SETTINGS}")]
    return {read_settings(path)["config"]["seed"] for path in paths if (path / file).exists()}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [["joblib", "hydra.launcher.n_jobs=2"], ["submitit_local"]], ids=lambda it: it[0])
def test_a_process_that_is_killed_takes_no_other_job_with_it(tmp_path, launcher):
    name, *more = launcher
    saboteur = "+callbacks.saboteur={_target_: saboteur.Saboteur, seed: 1}"
    done = swept(tmp_path, f"hydra/launcher={name}", *more, saboteur, "seed=0,1,2")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "3 jobs: 2 completed, 1 failed" in done.stdout, done.stdout + done.stderr
    assert "failed    seed=1: the process that ran it ended without a word" in done.stdout
    assert seeds(tmp_path, SUMMARY) == {0, 2}
    assert seeds(tmp_path, FAILED) == {1}


@pytest.mark.slow
def test_a_search_survives_a_process_that_is_killed(tmp_path):
    search = (
        *("hydra/sweeper=best_rate", "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=3", "schedule=constant"),
        *(
            "hydra/launcher=joblib",
            "hydra.launcher.n_jobs=2",
            "+hydra.sweeper.params={schedule.rate: 1.0, seed: 'choice(0, 1)'}",
        ),
        "+callbacks.saboteur={_target_: saboteur.Saboteur, seed: 1}",
    )
    done = swept(tmp_path, *search)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "2 jobs: 1 completed, 1 failed" in done.stdout, done.stdout + done.stderr
    assert re.search(r"^best +seed=0: test/loss 0\.\d+$", done.stdout, re.MULTILINE)
    assert (seeds(tmp_path, SUMMARY), seeds(tmp_path, FAILED)) == ({0}, {1})


@pytest.mark.slow
def test_a_search_finds_the_rate_that_does_not_diverge_and_goes_on_without_repeating_a_job(tmp_path):
    search = (
        *("hydra/sweeper=best_rate", "hydra.sweeper.n_trials=6", "hydra/sweeper/sampler=random", "schedule=constant"),
        "hydra.sweeper.params={schedule.rate: 'choice(0.5, 1e9)'}",
    )
    first = swept(tmp_path, *search)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "2 jobs: 1 completed, 1 diverged" in first.stdout
    assert re.search(r"^best +schedule.rate=0.5: test/loss 0\.\d+$", first.stdout, re.MULTILINE)
    best = OmegaConf.load(tmp_path / "sweep" / "optimization_results.yaml")
    assert best.best_params == {"schedule.rate": 0.5}
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").glob(f"*/{SUMMARY}")}
    again = swept(tmp_path, *search)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").glob(f"*/{SUMMARY}")} == stamps


@pytest.mark.slow
def test_a_search_that_goes_on_proposes_something_new(tmp_path):
    search = ("hydra/sweeper=best_rate", "hydra.sweeper.n_trials=2", "schedule=constant")
    outs = [swept(tmp_path, *search).stdout for _ in range(3)]
    assert [re.search(r"^(\d) jobs: ", out, re.MULTILINE)[1] for out in outs] == ["2", "4", "6"], outs
    proposed = [read_settings(path.parent)["config"]["schedule"]["rate"] for path in tmp_path.glob(f"*/*/{SETTINGS}")]
    assert len(set(proposed)) == 6


@pytest.mark.slow
def test_a_trial_that_is_proposed_twice_is_worth_what_it_is_worth(tmp_path):
    """Two processes are given the same job: the second waits for the first, and neither is taken for a failure."""
    optuna = pytest.importorskip("optuna")
    done = swept(
        tmp_path,
        *("hydra/sweeper=best_rate", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2", "schedule=constant"),
        *("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "trainer.max_steps=6000"),
        "hydra.sweeper.params={schedule.rate: 'choice(0.5)'}",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 jobs: 1 completed" in done.stdout
    study = optuna.load_study(study_name="best_rate", storage=f"sqlite:///{tmp_path / 'sweep' / 'study.db'}")
    first, second = (trial.value for trial in study.trials)
    assert first == second < 1.0


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("hydra.launcher.timeout_min=2h", ""),
        ("hydra.launcher.mem_gb=16G", ""),
        ("+hydra.launcher.foo=1", "foo"),
        ("hydra.launcher.setup=module load x", ""),
        ("hydra.launcher.array_parallelism=many", ""),
        ("hydra.launcher.submitit_folder=null", "submitit_folder"),
    ],
)
def test_settings_that_submitit_falls_over_are_said_in_one_sentence(tmp_path, monkeypatch, wrong, reason):
    pytest.importorskip("submitit")
    for name in ("srun", "sbatch"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 0\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    done = swept(tmp_path, "hydra/launcher=slurm", wrong, "seed=0,1")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said.startswith("error: hydra/launcher=slurm takes no such settings; its file in conf/ says what each is (")
    assert reason in said


def test_a_job_without_time_to_start_is_refused(tmp_path):
    done = swept(tmp_path, "hydra/launcher=slurm", "hydra.launcher.timeout_min=1", "seed=0,1")
    assert done.returncode == 2
    assert done.stderr == (
        "error: hydra.launcher.timeout_min=1 is not possible: SLURM tells a job to end signal_delay_s=60 s and up to "
        "30 s more before its time is up; it must be at least 2.\n"
    )


@pytest.mark.parametrize(
    ("minutes", "delay", "possible"), [(1, 1, True), (1, 29, True), (1, 30, False), (2, 60, True), (2, 90, False)]
)
def test_the_time_of_a_job_is_held_against_the_signal_before_its_end(minutes, delay, possible):
    launcher = {"timeout_min": minutes, "signal_delay_s": delay}
    config = OmegaConf.create({"hydra": {"sweeper": {}, "launcher": launcher}})
    if possible:
        check_sweep(config)
    else:
        with pytest.raises(InvalidInput, match=rf"hydra.launcher.timeout_min={minutes} .* at least {minutes + 1}"):
            check_sweep(config)


def test_an_error_of_submitit_without_words_is_named():
    class Stub(queue._Launcher):
        def _waiting(self, jobs):  # noqa: ARG002
            return False

        def _submit(self, *given):  # noqa: ARG002
            raise AssertionError

    launcher = Stub.__new__(Stub)
    launcher.config = OmegaConf.create({"hydra": {"runtime": {"choices": {"hydra/launcher": "slurm"}}}})
    pytest.importorskip("submitit")
    with pytest.raises(RunFailure, match=r"^hydra/launcher=slurm takes no such .* \(AssertionError in submitit\)\.$"):
        launcher._submitted([["seed=0"]], 0)


def test_without_submitit_the_remedy_is_said(monkeypatch):
    monkeypatch.setattr(queue, "BaseSubmititLauncher", None)
    with pytest.raises(RunFailure, match=r"needs submitit, which is not installed: pip install -e '\.\[slurm\]'"):
        queue.SlurmLauncher(partition=None).setup()


@pytest.mark.parametrize(
    ("programs", "reason"),
    [
        ({}, 'Could not detect "srun", are you indeed on a slurm cluster?'),
        (
            {"srun": "", "sbatch": "echo 'sbatch: error: invalid partition specified: foo' >&2; exit 1"},
            "sbatch: error: invalid partition specified: foo",
        ),
    ],
    ids=["no SLURM", "a refusal"],
)
def test_a_queue_that_takes_no_jobs_is_said_in_one_sentence(tmp_path, monkeypatch, programs, reason):
    place = tmp_path / "bin"
    place.mkdir()
    for name, script in programs.items():
        (place / name).write_text(f"#!/bin/sh\n{script}\n")
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}/usr/bin{os.pathsep}/bin" if programs else str(place))
    done = swept(tmp_path, "hydra/launcher=slurm", "seed=0,1")
    assert done.returncode == 2
    *heard, said = done.stderr.splitlines()
    assert said == f"error: hydra/launcher=slurm cannot submit the jobs ({reason})."
    assert heard == ([reason] if programs else [])  # submitit passes sbatch's own words on
    assert "2 jobs: 2 missing" in done.stdout


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 7_0; echo 7_2", {"7_0", "7_2"}),
        ("exit 0", set()),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", set()),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", None),
    ],
)
def test_the_queue_is_asked_for_the_jobs_that_are_left(tmp_path, monkeypatch, script, expected):
    squeue = tmp_path / "squeue"
    squeue.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n{script}\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert queue._in_queue({"7", "8"}) == expected
    assert "--jobs=7,8" in (tmp_path / "asked").read_text()


# Two jobs at a time, so that a process that has served some of a sweep serves more of it.
IN_TURNS = ("hydra.launcher.n_jobs=2", "hydra.sweeper.max_batch_size=2")


def test_processes_that_serve_many_jobs_compose_and_run_each_as_hydra_does(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder, launcher in ((here, ["basic"]), (there, ["joblib", *IN_TURNS])):
        folder.mkdir()
        done = swept(folder, f"hydra/launcher={launcher[0]}", *launcher[1:], "seed=0,1,2", "model=nup,ntp")
        assert done.returncode == 0, done.stdout + done.stderr
        assert not done.stderr
    rows = [{path.parent.name: path.read_text() for path in f.glob("sweep/*/metrics.csv")} for f in (here, there)]
    assert len(rows[0]) == 6
    assert rows[0] == rows[1]
    for name in rows[0]:
        one, other = (OmegaConf.load(f / "sweep" / name / ".hydra" / "hydra.yaml").hydra for f in (here, there))
        assert one.job.num == other.job.num
        assert other.job.id == f"{other.job.name}_{other.job.num}"
        assert one.overrides.task == other.overrides.task
        assert one.job.override_dirname == other.job.override_dirname
        assert Path(other.runtime.output_dir) == there / "sweep" / name
