"""A sweep's job in a process that serves many of them."""

from __future__ import annotations

import math
import pickle

from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from eoc.tracking.run_folder import read_summary
from eoc.training.past import value_of
from eoc.training.sweep.drive import record_lost
from eoc.training.sweep.jobs import Job, is_finished, plan
from eoc.training.sweep.settings import expect_our_launchers, worst

_unpacked: tuple[bytes, HydraContext, DictConfig, TaskFunction] | None = None  # of the sweep served last


def run(kit: bytes, number: int, overrides: list[str]) -> JobReturn:
    """Compose a job and run it, as Hydra's joblib launcher does.

    Args:
        kit: what the jobs of a sweep share, pickled: Hydra's context, the sweep's config, the function to be called,
            and the state of Hydra's singletons.
        number: of the job.
        overrides: its command line.
    """
    context, config, function = _unpack(kit)
    job = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(job):
        job.hydra.job.id = f"{job.hydra.job.name}_{number}"
        job.hydra.job.num = number
    return run_job(
        hydra_context=context,
        config=job,
        task_function=function,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def with_result(context: HydraContext, config: DictConfig, number: int, overrides: list[str]) -> JobReturn | None:
    """Return what a job of a search returned, if it has ended with a result."""
    job = _planned(context, config, number, overrides)
    if not is_finished(job):
        return None
    assert job.folder is not None
    value = value_of(read_summary(job.folder), config.objective)
    return _returned(overrides, value if math.isfinite(value) else worst(config))


def lost(context: HydraContext, config: DictConfig, number: int, overrides: list[str]) -> JobReturn:
    """Record that the process of a search's job was killed, and return what such a job is worth."""
    record_lost([_planned(context, config, number, overrides)])
    return _returned(overrides, worst(config))


def _planned(context: HydraContext, config: DictConfig, number: int, overrides: list[str]) -> Job:
    return plan([overrides], lambda words: context.config_loader.load_sweep_config(config, words), first=number)[0]


def _returned(overrides: list[str], value: float) -> JobReturn:
    returned = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    returned.return_value = value
    return returned


def _unpack(kit: bytes) -> tuple[HydraContext, DictConfig, TaskFunction]:
    global _unpacked
    if _unpacked is None or _unpacked[0] != kit:
        expect_our_launchers()
        setup_globals()
        plugins = Plugins.instance()  # first, since to look for plugins is to import them anew
        context, config, function, state = pickle.loads(kit)
        state["instances"][Plugins] = plugins
        Singleton.set_state(state)
        _unpacked = kit, context, config, function
    return _unpacked[1:]
