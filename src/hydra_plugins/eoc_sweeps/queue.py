"""Hydra's submitit launchers, which wait for every job of a sweep, however another one ended."""

from __future__ import annotations

import subprocess
import time
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf

try:
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
except ModuleNotFoundError:  # an extra that is not installed
    BaseSubmititLauncher = None

PAUSE, LONGEST_PAUSE = 1.0, 30.0  # s between looks at the queue, at first and after a while
ANSWER = 60.0  # s to wait for the queue's answer


class _Launcher(BaseSubmititLauncher or Launcher):  # type: ignore[misc]
    """Submits all jobs at once; one that ends without a result (killed, out of memory or time) stops no other."""

    def __init__(self, **params: Any) -> None:
        if BaseSubmititLauncher is not None:
            super().__init__(**params)

    def setup(self, **context: Any) -> None:
        """Take Hydra's objects.

        Raises:
            RunFailure: if submitit is not installed.
        """
        from eoc.errors import RunFailure  # here, since Hydra imports plugins for --help too

        if BaseSubmititLauncher is None:
            raise RunFailure("This launcher needs submitit, which is not installed: pip install -e '.[slurm]'.")
        super().setup(**context)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit the jobs, wait until none is left in the queue, return what each returned (the worst: nothing)."""
        from eoc.training.sweep.settings import worst

        jobs = self._submitted(job_overrides, initial_job_idx)
        pause = PAUSE
        while self._waiting(jobs):
            time.sleep(pause)
            pause = min(1.1 * pause, LONGEST_PAUSE)
        return [_returned(job, worst(self.config)) for job in jobs]

    def _submitted(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        from submitit.core.utils import FailedJobError

        from eoc.errors import RunFailure

        try:
            return self._submit(job_overrides, initial_job_idx)
        except (FailedJobError, RuntimeError, OSError) as error:
            what = "cannot submit the jobs"
            reason: Exception = error
        except (AssertionError, KeyError, NameError, TypeError, ValueError) as error:  # submitit's, of a wrong setting
            what = "takes no such settings; its file in conf/ says what each is"
            reason = error
        name = self.config.hydra.runtime.choices["hydra/launcher"]
        said = " ".join(str(reason).split()).rstrip(".") or f"{type(reason).__name__} in submitit"
        raise RunFailure(f"hydra/launcher={name} {what} ({said}).") from reason

    def _submit(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        import submitit

        params = {key: value for key, value in self.params.items() if value is not None}
        folder, timeouts = params.pop("submitit_folder"), params.pop("max_num_timeout", None)
        first = {} if timeouts is None else {f"{self._EXECUTOR}_max_num_timeout": timeouts}
        executor = submitit.AutoExecutor(folder=folder, cluster=self._EXECUTOR, **first)
        shared = set(OmegaConf.structured(BaseQueueConf).keys())
        executor.update_parameters(
            **{key if key in shared else f"{self._EXECUTOR}_{key}": value for key, value in params.items()}
        )
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        state = Singleton.get_state()
        rows = [
            (list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", state)
            for number, overrides in enumerate(job_overrides, start=initial_job_idx)
        ]
        return list(executor.map_array(self, *zip(*rows, strict=True)))

    @abstractmethod
    def _waiting(self, jobs: list[Any]) -> bool:
        """Return whether any of the jobs may still end."""


class SlurmLauncher(_Launcher):
    """On a SLURM cluster; asks squeue which jobs are left, which every cluster has (accounting need not run)."""

    _EXECUTOR = "slurm"

    def _waiting(self, jobs: list[Any]) -> bool:
        left = [job for job in jobs if not job.paths.result_pickle.exists()]
        if not left:
            return False
        queued = _in_queue({job.job_id.partition("_")[0] for job in left})
        return queued is None or any(job.job_id in queued for job in left)


class LocalLauncher(_Launcher):
    """In processes of this machine, all at once (hydra.sweeper.max_batch_size bounds how many)."""

    _EXECUTOR = "local"

    def _waiting(self, jobs: list[Any]) -> bool:
        return not all(job.done() for job in jobs)


def _in_queue(arrays: set[str]) -> set[str] | None:
    """Return the jobs of some arrays that are pending or running; None if the queue does not answer."""
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={','.join(sorted(arrays))}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode != 0 and "Invalid job id" not in done.stderr:  # which says that it was long ago
        return None
    return set(done.stdout.split())


def _returned(job: Any, otherwise: float) -> JobReturn:
    if job.paths.result_pickle.exists():
        outcome, result = job._get_outcome_and_result()
        if outcome == "success":
            return result
    return JobReturn(status=JobStatus.COMPLETED, _return_value=otherwise)
