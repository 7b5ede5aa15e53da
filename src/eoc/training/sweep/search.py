"""What became of a search: its jobs, and the best of them."""

from __future__ import annotations

import math
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from eoc.errors import RunFailure
from eoc.tracking.run_folder import FAILED, SETTINGS, Damaged, read_settings
from eoc.training.sweep.drive import has_failure
from eoc.training.sweep.jobs import WITH_RESULT, Job, outcome
from eoc.training.sweep.report import report

RESULTS = "optimization_results.yaml"  # what Hydra's sweepers leave


def conclude(folder: Path, objective: str) -> None:
    """Print how many jobs of a search completed, diverged and failed, and the values that were found best.

    Args:
        folder: of the sweep.
        objective: the metric that was searched by.

    Raises:
        RunFailure: if a job failed or is missing.
    """
    jobs = []
    # One whose settings were refused has nothing but its failure.
    begun = {path.parent for name in (SETTINGS, FAILED) for path in folder.glob(f"**/{name}")}
    for number, path in enumerate(sorted(begun)):
        job = Job(number, [], path, words=path.name)
        try:
            job.identity = read_settings(path)["identity"]
        except Damaged as error:
            job.refusal = str(error)
        except FileNotFoundError:
            pass
        jobs.append(job)
    outcomes = {job.number: outcome(job) for job in jobs}
    print(report(jobs, outcomes, set(), 0, folder, 0.0), flush=True)
    if (folder / RESULTS).exists():
        best = OmegaConf.load(folder / RESULTS)
        assert isinstance(best, DictConfig)
        found = ", ".join(f"{key}={value}" for key, value in best.get("best_params", {}).items())
        if math.isfinite(best.get("best_value", math.nan)):  # else every job diverged or failed
            print(f"best      {found}: {objective} {best.best_value:.4g}", flush=True)
    lost = [each for each in outcomes.values() if each.status not in WITH_RESULT]
    if lost:
        more = f"; {FAILED} in their folders says more" if any(map(has_failure, jobs)) else " yet"
        raise RunFailure(f"{len(lost)} of {len(jobs)} jobs have no result{more}.")
