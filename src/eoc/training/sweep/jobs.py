"""The jobs of a sweep: where each belongs, and what its folder says has become of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from eoc.tracking.claim import is_claimed
from eoc.tracking.run_folder import has_result, read_failure, read_summary
from eoc.training.door import sentence
from eoc.training.identity import identity
from eoc.training.past import KEPT_IN, was_here

WITH_RESULT = ("completed", "diverged", "stopped")  # what summary.json says
NOT_BEGUN = "not begun"


@dataclass
class Job:
    """One cell of a sweep's grid.

    Args:
        number: its place in the grid, from 0.
        overrides: what the command line and the grid set.
        folder: where it runs; None if its config does not compose.
        identity: the hash of its settings.
        refusal: why its config does not compose.
        words: the overrides that set it apart from the other jobs.
        places: config key → folder of what it keeps elsewhere than in its own, or in it.
    """

    number: int
    overrides: list[str]
    folder: Path | None = None
    identity: str | None = None
    refusal: str | None = None
    words: str = ""
    places: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of a job: one of `WITH_RESULT`, ``failed``, ``running`` (elsewhere) or ``missing``."""

    status: str
    why: str = ""


Compose = Callable[[list[str]], DictConfig]


def plan(grid: Sequence[Sequence[str]], compose: Compose, first: int = 0) -> list[Job]:
    """Compose every job's config and find its folder, or the sentence that says why it does not compose.

    Args:
        grid: the overrides of each job.
        compose: makes a job's config from its overrides.
        first: number of the first job.
    """
    jobs: list[Job] = []
    shared = set.intersection(*map(set, grid)) if len(grid) > 1 else set()
    before = HydraConfig.instance().cfg
    try:
        for number, overrides in enumerate(grid, start=first):
            words = " ".join(word for word in overrides if word not in shared)
            job = Job(number, list(overrides), words=words or "the only job")
            jobs.append(job)
            try:
                config = compose(job.overrides)
                with open_dict(config):
                    config.hydra.job.num = config.hydra.job.id = number
                HydraConfig.instance().cfg = config  # type: ignore[assignment]
                subdir = str(OmegaConf.select(config, "hydra.sweep.subdir"))
                job.folder = Path(config.hydra.sweep.dir).absolute() / subdir
                job.identity = identity(config)
                with open_dict(config):
                    config.hydra.runtime.output_dir = str(job.folder)
                places = {key: OmegaConf.select(config, key) for key in KEPT_IN}
                job.places = {key: Path(at).absolute() for key, at in places.items() if at and isinstance(at, str)}
            except Exception as error:
                job.folder, job.refusal = None, sentence(error, job.overrides)
                if job.refusal is None:
                    raise
    finally:
        HydraConfig.instance().cfg = before
    return jobs


def is_finished(job: Job) -> bool:
    """Whether the job's own result lies in its folder (one of other settings there is refused)."""
    return job.folder is not None and has_result(job.folder) and was_here(job.folder, job.identity or "")


def outcome(job: Job) -> Outcome:
    """Read what became of a job from its folder."""
    if job.refusal is not None:
        return Outcome("failed", job.refusal)
    assert job.folder is not None
    failure = read_failure(job.folder)
    if failure is not None:
        return Outcome("failed", failure)
    if is_finished(job):
        summary = read_summary(job.folder)
        reason = f"step {summary['diverged']['step']}: {summary['diverged']['reason']}" if summary["diverged"] else ""
        reason = f"at step {summary['steps']}" if summary["status"] == "stopped" else reason
        return Outcome(summary["status"], reason)
    if is_claimed(job.folder):
        return Outcome("running", "another process is at work in its folder")
    return Outcome("missing", "cut off" if job.folder.exists() else NOT_BEGUN)
