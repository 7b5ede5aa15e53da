"""Running the jobs that are left, and saying what became of all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from eoc.errors import InvalidInput, RunFailure
from eoc.tracking.claim import is_claimed
from eoc.tracking.run_folder import FAILED, LOCK, SETTINGS, Damaged, has_result, read_settings, read_summary
from eoc.training.past import taken_by_another
from eoc.training.sweep.jobs import WITH_RESULT, Job, is_finished, outcome
from eoc.training.sweep.report import report

Launch = Callable[[list[Job]], Any]
ATTEMPTS = 3  # launches of processes that die before they have begun a job
KILLED = "the process that ran it ended without a word (killed, or out of memory or time)"


def drive(jobs: Sequence[Job], launch: Launch, folder: Path, *, resume: bool, planning: float) -> None:
    """Run what is left of a sweep and print what became of it.

    Args:
        jobs: all of its jobs.
        launch: runs some of them, in whatever processes; returns when they have ended, raises if a process died.
        folder: of the sweep.
        resume: leave finished jobs as they are, and go on with those that were cut off; False refuses to run either,
            and leaves them as they are all the same.
        planning: s that it took to compose the jobs.

    Raises:
        RunFailure: if a job failed or is missing.
    """
    if not jobs:
        raise RunFailure("The sweep has no jobs: a list or a range on the command line is empty.")
    own, twins = _apart(jobs, folder)
    before = {job.number for job in own if resume and is_finished(job)}
    busy = [job for job in own if job.folder is not None and is_claimed(job.folder)]
    for job in own:
        if job.refusal is not None or job.folder is None or job.number in before or job in busy:
            continue
        if has_result(job.folder):
            job.refusal = _in_the_way(job, job.folder)
        elif said := damaged_result(job.folder):
            print(f"{said} The job runs again.", flush=True)
        elif not resume and _is_cut_off(job.folder):
            job.refusal = f"{job.folder} holds a run that was cut off, and sweep.resume is false"
    left = [job for job in own if job.refusal is None and job.number not in before and job not in busy]
    left.sort(key=lambda job: (job.folder or folder).exists())  # those that ended a process before come last
    print(f"{len(own)} jobs in {folder}: {len(before)} finished before, {len(left)} to run", flush=True)
    try:
        if left:
            _launch(left, launch)
    finally:
        outcomes = {job.number: outcome(job) for job in own}
        print(report(own, outcomes, before, twins, folder, planning), flush=True)
    unfinished = [each for each in outcomes.values() if each.status not in WITH_RESULT]
    if unfinished and resume and sum(job.refusal is not None for job in own) == len(unfinished):
        raise RunFailure(f"{len(unfinished)} of {len(own)} jobs were refused, as the report says of each.")
    if unfinished:
        more = f"; {FAILED} in their folders says more, and" if any(map(has_failure, own)) else " yet;"
        raise RunFailure(
            f"{len(unfinished)} of {len(own)} jobs have no result{'' if resume else ' of this command'}{more} the same "
            f"command with {'' if resume else 'sweep.resume=true '}hydra.sweep.dir={folder} runs what is "
            "left, and tries again what failed."
        )


def _in_the_way(job: Job, folder: Path) -> str:
    """Say what finished run a job would run over."""
    if is_finished(job):
        return f"{folder} holds a finished run, and sweep.resume is false"
    try:
        read_settings(folder)
    except Damaged as error:
        return f"{error} Whose finished run lies there is not known: move it, or remove it to run it again"
    except FileNotFoundError:
        pass
    return str(taken_by_another(folder))


def damaged_result(folder: Path) -> str | None:
    """Say that there is a ``summary.json`` that cannot be read; None where there is none, or a good one."""
    try:
        read_summary(folder)
    except Damaged as error:
        return str(error)
    except (FileNotFoundError, NotADirectoryError):
        pass
    return None


def _is_cut_off(folder: Path) -> bool:
    return (folder / SETTINGS).exists() and not (folder / FAILED).exists()


def _apart(jobs: Sequence[Job], sweep: Path) -> tuple[list[Job], int]:
    """Keep the first of the jobs that are the same; return how many others there are. Others' folders are refused."""
    first: dict[Path, Job] = {}
    places: dict[tuple[str, Path], Job] = {}
    own = []
    for job in jobs:
        if job.folder is None:
            own.append(job)
            continue
        there = first.setdefault(job.folder, job)
        if there is job or there.identity != job.identity:
            own.append(job)
        if there.identity != job.identity:
            where = job.folder.relative_to(sweep) if job.folder.is_relative_to(sweep) else job.folder
            rule = f"it is the folder of a job of other settings too ({there.words}); leave it out, or tell them apart"
            job.folder, job.refusal = None, str(InvalidInput("hydra.sweep.subdir", str(where), rule))
            continue
        for key, place in job.places.items():
            there = places.setdefault((key, place), job)
            if there.identity != job.identity and not is_finished(job):
                rule = (
                    f"a job of other settings keeps its own there too ({there.words}); leave it out, or tell them apart"
                )
                job.folder, job.refusal = None, str(InvalidInput(key, str(place), rule))
    return own, len(jobs) - len(own)


def _launch(jobs: list[Job], launch: Launch) -> None:
    """Launch all; if a process dies and takes others with it, run those it was busy with one by one, then go on.

    Raises:
        RunFailure: if processes die, time and again, before they have begun a job.
    """
    for job in jobs:
        _failure(job).unlink(missing_ok=True)  # of an earlier attempt
    idle = 0  # launches in a row that began nothing
    while jobs:
        start = time.time()
        try:
            launch(jobs)
            record_lost(jobs)
            return
        except Exception as error:
            left = [job for job in jobs if not _ended(job)]
            suspects = [job for job in left if _begun_since(job, start)]
            idle = 0 if suspects else idle + 1
            if not suspects and not isinstance(error, BrokenExecutor):
                raise
            if idle == ATTEMPTS:
                raise RunFailure(f"Processes died {idle} times before they had begun a job: {error}") from error
        for job in suspects:
            with suppress(Exception):
                launch([job])
            record_lost([job])
        jobs = [job for job in left if job not in suspects]


def record_lost(jobs: Sequence[Job]) -> None:
    """Record the end of those that a launcher has done with and that left neither a result nor an error."""
    for job in jobs:
        if not _ended(job) and outcome(job).status != "running":
            with suppress(OSError):  # of a full disk
                _failure(job).parent.mkdir(parents=True, exist_ok=True)
                _failure(job).write_text(f"{KILLED}\n")


def has_failure(job: Job) -> bool:
    """Whether its folder says why it failed."""
    return job.folder is not None and _failure(job).exists()


def _failure(job: Job) -> Path:
    assert job.folder is not None
    return job.folder / FAILED


def _ended(job: Job) -> bool:
    return outcome(job).status in (*WITH_RESULT, "failed")


def _begun_since(job: Job, moment: float) -> bool:
    assert job.folder is not None
    lock = job.folder / LOCK
    return lock.exists() and lock.stat().st_mtime >= moment - 1.0  # file systems round time
