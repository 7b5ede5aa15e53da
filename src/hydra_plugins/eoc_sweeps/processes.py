"""Hydra's joblib launcher, whose processes take what all jobs of a sweep share once, not once a job."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, filter_overrides, setup_globals
from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher

log = logging.getLogger(__name__)


class ProcessLauncher(JoblibLauncher):
    """Runs jobs in processes of this machine.

    Hydra's own sends its objects with every job, and has the process look for plugins before each: twice the time that
    a job takes beside its steps.

    Args:
        n_jobs: processes; -1 is one a core.
        more: of `joblib.Parallel`.
    """

    def __init__(self, n_jobs: int = -1, **more: Any) -> None:
        super().__init__(n_jobs=n_jobs, **more)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs and return what each returned."""
        if self.joblib.get("n_jobs") == 1:  # in this process
            return super().launch(job_overrides, initial_job_idx)
        import cloudpickle  # here, since Hydra imports plugins for --help too
        from hydra_plugins.hydra_joblib_launcher._core import process_joblib_cfg
        from joblib import Parallel, delayed

        from eoc.training.past import is_grid
        from eoc.training.sweep.worker import lost, run, with_result

        config, context = self.config, self.hydra_context
        assert config is not None
        assert context is not None
        setup_globals()
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        Path(str(config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        self.joblib["backend"] = "loky"
        process_joblib_cfg(self.joblib)
        options = ",".join(f"{key}={value}" for key, value in self.joblib.items())
        log.info(
            "Joblib.Parallel(%s) is launching %d jobs into %s", options, len(job_overrides), config.hydra.sweep.dir
        )
        jobs = list(enumerate(map(list, job_overrides), start=initial_job_idx))
        for number, overrides in jobs:
            log.info("\t#%d : %s", number, " ".join(filter_overrides(overrides)))
        kit = cloudpickle.dumps((context, config, self.task_function, Singleton.get_state()))
        try:
            return Parallel(**self.joblib)(delayed(run)(kit, number, overrides) for number, overrides in jobs)
        except BrokenProcessPool:  # a process was killed, and took the others with it
            if is_grid(config):  # which goes on itself
                raise

        def alone(number: int, overrides: list[str]) -> JobReturn:
            if (ended := with_result(context, config, number, overrides)) is not None:
                return ended
            try:
                (returned,) = Parallel(**self.joblib)([delayed(run)(kit, number, overrides)])
            except BrokenProcessPool:
                returned = lost(context, config, number, overrides)
            return returned

        return [alone(*job) for job in jobs]
