"""Weights & Biases as a logger that needs neither account nor network, and never stops a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_warn

from eoc.errors import InvalidInput, real, text

T = TypeVar("T")

MODES = ("offline", "online", "disabled")


class WandbLog(Logger):
    """One W&B run for one run folder, opened at the first row; x axis ``step`` for everything.

    Args:
        project: W&B project.
        mode: ``offline`` (no account, no network), ``online``, or ``disabled``.
        root: the folder under which ``wandb/`` collects all runs, absolute; one for all, since W&B resolves a
            relative one against the first run of a process.
        name: shown name of the run.
        group: what a sweep's runs share; null for none.
        tags: to filter by.
        entity: W&B user or team; null for the account's default.
        init_seconds: s to wait for W&B to start before going on without it.
    """

    def __init__(
        self,
        project: str,
        mode: str,
        root: str,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        entity: str | None = None,
        init_seconds: float = 20.0,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise InvalidInput("mode", mode, f"it must be one of {', '.join(MODES)} (WANDB_MODE sets the default)")
        if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
            raise InvalidInput("tags", tags, "it must be a list of texts, [a,b]")
        self.mode: Any = mode
        self._settings: dict[str, Any] = {
            "project": text("project", project),
            "name": _optional("name", name),
            "group": _optional("group", group),
            "tags": list(tags),
            "entity": _optional("entity", entity),
        }
        self.root = Path(text("root", root)).absolute()
        self._init_seconds = real("init_seconds", init_seconds, above=0.0)
        self.run_id: str | None = None
        self._config: dict[str, Any] = {}
        self._run: Any = None
        self._lost = mode == "disabled"

    @property
    def name(self) -> str:
        """Lightning asks for one."""
        return "wandb"

    @property
    def version(self) -> str | None:
        """The run's id."""
        return self.run_id

    @property
    def local_folder(self) -> Path | None:
        """Where W&B writes this run on disk, once it has begun."""
        return Path(self._run.dir).parent if self._run is not None else None

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Keep the config for the run's page."""
        self._config = dict(params)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Send one row in one call."""
        run = self._started()
        if run is not None:
            self._guard(lambda: run.log({**metrics, "step": step}, step=step))

    def log_image(self, key: str, images: list[Any]) -> None:
        """Send figures (paths of PNG files)."""
        run = self._started()
        if run is not None:
            import wandb

            self._guard(lambda: run.log({key: [wandb.Image(str(image)) for image in images]}))

    def log_summary(self, values: dict[str, Any]) -> None:
        """Set the run's summary values."""
        if self._run is not None and not self._lost:
            self._guard(lambda: self._run.summary.update(values))

    def finish(self, exit_code: int = 0) -> None:
        """Close the run, a lost one too; the next run of this process opens one of its own."""
        run, self._run = self._run, None
        if run is not None:
            self._guard(lambda: run.finish(exit_code=exit_code))

    def _started(self) -> Any:
        if self._run is None and not self._lost:
            self._run = self._guard(self._start)
        return None if self._lost else self._run

    def _start(self) -> Any:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        self.root.mkdir(parents=True, exist_ok=True)
        # A Settings object of its own for every run: shared ones let runs of one process leak into each other.
        settings = wandb.Settings(init_timeout=self._init_seconds, console="off", silent=True, save_code=False)
        run = wandb.init(
            **self._settings,
            mode=self.mode,
            dir=str(self.root),
            config=self._config,
            id=self.run_id,
            resume="allow" if self.run_id and self.mode == "online" else None,
            reinit="create_new",
            settings=settings,
        )
        self.run_id = run.id
        run.define_metric("step", hidden=True)
        run.define_metric("*", step_metric="step")
        return run

    def _guard(self, call: Callable[[], T]) -> T | None:
        """Do it, or say once that W&B is lost and go on: ``metrics.csv`` has everything."""
        try:
            return call()
        except Exception as error:
            if not self._lost:
                rank_zero_warn(f"W&B stopped ({error}); the run goes on without it, metrics.csv has every value")
            self._lost = True
            return None


def _optional(key: str, value: object) -> str | None:
    return None if value is None else text(key, value)
