"""The table that ends a sweep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from eoc.tracking.run_folder import SUMMARY, read_summary
from eoc.training.sweep.jobs import NOT_BEGUN, WITH_RESULT, Job, Outcome

ORDER = (*WITH_RESULT, "failed", "running", "missing")
SHOWN = 20  # of results with a remark, and of jobs that were not begun, so many are listed; all that went wrong


def report(
    jobs: Sequence[Job],
    outcomes: Mapping[int, Outcome],
    before: set[int],
    twins: int,
    folder: Path,
    planning: float,
) -> str:
    """Say how many jobs completed, diverged, failed and are missing, and each that is not simply completed.

    What else lies in the folder is counted too: another command's jobs, or those of another version of the settings.
    """
    counts = Counter(outcome.status for outcome in outcomes.values())
    said = ", ".join(f"{counts[status]} {status}" for status in ORDER if counts[status])
    rows = [f"{len(jobs)} jobs: {said}"]
    if twins:
        rows.append(f"{twins} more have the settings of another")
    for status in ORDER[1:]:
        listed = [job for job in jobs if outcomes[job.number].status == status]
        brief = [job for job in listed if status in WITH_RESULT or outcomes[job.number].why == NOT_BEGUN]
        hidden = {job.number for job in brief[SHOWN:]}
        shown = [job for job in listed if job.number not in hidden]
        rows += [f"{status:<9} {job.words}: {outcomes[job.number].why}" for job in shown]
        if hidden:
            rows.append(f"{status:<9} and {len(hidden)} more")
    new = [job for job in jobs if job.number not in before and outcomes[job.number].status in WITH_RESULT]
    overhead = overhead_of([read_summary(job.folder) for job in new if job.folder is not None])
    if overhead is not None:
        each = planning / len(jobs)
        rows.append(
            f"overhead  {overhead + each:.3f} s a job beside its steps: {each:.3f} s to plan it and {overhead:.3f} s "
            "(median) around the run"
        )
    others = {path.parent for path in folder.glob(f"*/{SUMMARY}")} - {job.folder for job in jobs}
    if others:
        rows.append(f"others    {len(others)} runs of other settings lie in the same folder, and count in its tables")
    rows.append(f"results   {folder}")
    line = "─" * min(max(map(len, rows)), 120)
    return "\n".join([line, *rows, line])


def overhead_of(summaries: Iterable[Mapping[str, Any]]) -> float | None:
    """Median seconds a job took beside its steps and what it measured at them; None if no process ran two jobs.

    The first one's are imports. A job's time is counted from the end of the one before it in the same process.
    """
    processes: dict[str, list[tuple[float, float]]] = {}
    for summary in summaries:
        processes.setdefault(summary["process"], []).append((summary["ended"], summary["training_seconds"]))
    beside = []
    for ended in map(sorted, processes.values()):
        beside += [end - previous - training for (previous, _), (end, training) in pairwise(ended)]
    return median(beside) if beside else None
