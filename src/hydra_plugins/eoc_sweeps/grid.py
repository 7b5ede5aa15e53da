"""Hydra's own sweeper, which leaves finished jobs out, survives those that fail, and says what became of all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from eoc.training.sweep.jobs import Job

MANY = 200  # jobs whose settings take seconds to compose


class GridSweeper(BasicSweeper):
    """Every combination of the given values, in any launcher.

    Args:
        max_batch_size: jobs that the launcher is given at once; None: all.
        params: further overrides, as Hydra's basic sweeper takes them.
        grids: several grids of such overrides, each beside ``params``: their union is run. None: one grid. Where the
            command line chooses of a group (``model=nup``), those that choose otherwise are left out, if any is left.
    """

    def __init__(
        self,
        max_batch_size: int | None = None,
        params: dict[str, str] | None = None,
        grids: Sequence[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(max_batch_size=max_batch_size, params=params)
        self.grids = list(grids) if grids else [{}]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take Hydra's objects, with a config loader that remembers."""
        from eoc.training.sweep.loader import RememberingLoader  # here, since Hydra imports plugins for --help too

        context = HydraContext(RememberingLoader(hydra_context.config_loader), hydra_context.callbacks)
        super().setup(hydra_context=context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs that are left.

        Raises:
            RunFailure: if one failed or is missing.
        """
        from eoc.training.sweep.drive import drive
        from eoc.training.sweep.jobs import plan
        from eoc.training.sweep.settings import check_spread

        config, launcher, context = self.config, self.launcher, self.hydra_context
        assert config is not None
        assert launcher is not None
        assert context is not None
        start = time.perf_counter()
        folder = Path(config.hydra.sweep.dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, folder / "multirun.yaml")
        loader = context.config_loader
        parser = OverridesParser.create(config_loader=loader)
        cells: list[list[str]] = []
        for grid in _chosen(self.grids, arguments, lambda key: bool(loader.get_group_options(key))):
            words = [*self._parse_config(), *(f"{key}={value}" for key, value in grid.items()), *arguments]
            overrides = parser.parse_overrides(words)
            for override in overrides:
                check_spread(override, search=False)
            cells += self.split_arguments(overrides, max_batch_size=None)[0]
        if len(cells) > MANY:
            print(f"Composing the settings of {len(cells)} jobs", flush=True)
        jobs = plan(cells, lambda words: loader.load_sweep_config(config, words))

        def launch(some: list[Job]) -> None:
            begun = 0
            for batch in self.split_overrides_to_chunks([_placed(job, folder) for job in some], self.max_batch_size):
                begun += len(launcher.launch(batch, initial_job_idx=begun))

        planning = time.perf_counter() - start
        drive(jobs, launch, folder, resume=config.sweep.resume, planning=planning)


def _chosen(
    grids: Sequence[dict[str, Any]], arguments: Sequence[str], is_group: Callable[[str], bool]
) -> Sequence[dict[str, Any]]:
    """Return the grids that fit the groups' choices on the command line: what else they say was set for theirs."""
    for key, _, value in (word.partition("=") for word in arguments):
        wanted = {each.strip() for each in value.split(",")}
        fitting = [grid for grid in grids if wanted & {each.strip() for each in str(grid.get(key, "")).split(",")}]
        if fitting and is_group(key):
            grids = fitting
    return grids


def _placed(job: Job, folder: Path) -> list[str]:
    """Name the folder that was found for a job, however the launcher numbers it."""
    assert job.folder is not None
    where = job.folder.relative_to(folder) if job.folder.is_relative_to(folder) else job.folder
    return [*job.overrides, f"hydra.sweep.subdir='{where}'"]
