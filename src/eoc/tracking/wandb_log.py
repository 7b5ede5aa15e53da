"""Weights & Biases as a logger that needs neither account nor network, and neither stops nor slows a run."""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn

from eoc.errors import InvalidInput, optional, real, text
from eoc.tracking.courier import Courier
from eoc.tracking.wandb_past import Past, was_cut_off
from eoc.tracking.wandb_process import Clerk, command, give_back, hire, prepare
from eoc.tracking.wandb_service import reason

MODES = ("offline", "online", "disabled")
FORBIDDEN = r"/\#?%:"  # in the name of a project
STARTING = 40.0  # s that W&B's process and its service may take to start on a busy machine
HANDING_OVER = 60.0  # s that the rows of a run that goes on may take
CLOSING = 2.0  # s that it may take to close a run, beyond the patience that it and the last rows have
GATHERED = 1.0  # s over which rows are gathered: one by one they cost a run of short steps twice as much


class WandbLog(Logger):
    """One W&B run for one run folder, opened at the first row; x axis ``step`` for everything.

    W&B works in a process of its own, which is given the rows of a second together, so that a run waits for it at its
    end alone, and there not for long. A server that does not answer makes the run an offline one.

    Args:
        project: W&B project.
        mode: ``offline`` (no account, no network), ``online``, or ``disabled``.
        root: the folder under which ``wandb/`` collects all runs, absolute; one for all, since W&B resolves a
            relative one against the first run of a process.
        name: shown name of the run.
        group: what a sweep's runs share; null for none.
        job_type: what kind of run it is; null for none.
        tags: to filter by.
        entity: W&B user or team; null for the account's default.
        patience: s that the server may take to answer at the start, and to take what is left at the end.
    """

    def __init__(
        self,
        project: str,
        mode: str,
        root: str,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = "train",
        tags: Sequence[str] = (),
        entity: str | None = None,
        patience: float = 5.0,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise InvalidInput("mode", mode, f"it must be one of {', '.join(MODES)} (WANDB_MODE sets the default)")
        if not isinstance(tags, Sequence) or isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
            raise InvalidInput("tags", tags, "it must be a list of texts, [a,b]")
        if not set(FORBIDDEN).isdisjoint(text("project", project)):
            raise InvalidInput("project", project, f"W&B allows none of {FORBIDDEN} in a project's name")
        self.mode = mode
        self.settings: dict[str, Any] = {
            "project": project,
            "name": optional(text, "name", name),
            "group": optional(text, "group", group),
            "job_type": optional(text, "job_type", job_type),
            "tags": list(tags),
            "entity": optional(text, "entity", entity),
        }
        self.root = Path(text("root", root)).absolute()
        self.patience = real("patience", patience, above=0.0)
        self.run_id: str | None = None
        self._past: Past | None = None  # of a run that goes on
        self._cut_off = False
        self._config: dict[str, Any] = {}
        self._rows: list[dict[str, Any]] = []  # not handed over yet
        self._handed_over = -math.inf  # when that was done last
        self._courier: Courier | None = None
        self._clerk: Clerk | None = None
        self._folder: Path | None = None
        self._unreachable: str | None = None  # why an online run is logged offline
        self._said: set[str] = set()
        if mode != "disabled" and getattr(rank_zero_only, "rank", 0) == 0:
            prepare()

    @property
    def name(self) -> str:
        """Lightning asks for one."""
        return "wandb"

    @property
    def version(self) -> str | None:
        """The run's id."""
        return self.run_id

    @property
    def folder(self) -> Path | None:
        """Where W&B keeps this run on disk, once it is open."""
        return self._folder

    def resume(self, run_id: str, past: Past) -> None:
        """Go on with the run of this id; of its past rows W&B is handed those that it may lack."""
        self.run_id, self._past = run_id, past
        self._cut_off = was_cut_off(self.root, run_id)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Keep the config for the run's page."""
        self._config = dict(params)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Send one row, with the others of the same second."""
        self._rows.append({**metrics, "step": step, "_timestamp": time.time()})
        if time.monotonic() - self._handed_over >= GATHERED:
            self._send_rows()

    def save(self) -> None:
        """Send the rows that wait for others of their second."""
        self._send_rows()

    def log_image(self, key: str, images: list[Any]) -> None:
        """Send figures (paths of PNG files)."""
        self._send_rows()
        paths = [str(image) for image in images]
        self._send(lambda: self._call("log_images", key, paths))

    def log_summary(self, values: dict[str, Any]) -> None:
        """Set the run's summary values."""
        self._send_rows()
        if self._courier is not None:
            self._send(lambda: self._call("log_summary", values))

    def finish(self, exit_code: int = 0) -> BaseException | None:
        """Close the run, a lost one too, say what W&B may lack, return why; this process's next run opens its own."""
        self._send_rows()
        courier, self._courier = self._courier, None
        if courier is None:
            return None
        courier.finish(lambda: self._close(exit_code), seconds=self.patience, closing=CLOSING)
        self._say(courier.failure)
        clerk, self._clerk = self._clerk, None
        if clerk is not None and courier.failure is None:
            give_back(clerk)
        elif clerk is not None:
            clerk.end()
        return courier.failure

    # -- in the main thread ----------------------------------------------------------------------------------------

    def _send_rows(self) -> None:
        if self._rows:
            rows, self._rows, self._handed_over = self._rows, [], time.monotonic()
            self._send(lambda: self._call("log", rows))

    def _send(self, errand: Callable[[], object]) -> None:
        if self.mode == "disabled":
            return
        if self._courier is None:
            self.run_id = self.run_id or secrets.token_hex(4)
            self._courier = Courier("wandb")
            self._courier.send(self._open, seconds=self.patience + STARTING)
            if self._past is not None:
                self._courier.send(self._hand_over, seconds=HANDING_OVER)
        self._courier.send(errand, seconds=self.patience)
        self._say(self._courier.failure)

    def _say(self, failure: BaseException | None) -> None:
        """Say once each that the server is out of reach, and that something is lost."""
        if self._unreachable is not None:
            self._warn("unreachable", f"W&B cannot be reached ({self._unreachable}); this run is logged offline")
        if failure is not None:
            self._warn("lost", f"W&B stopped ({reason(failure)}); metrics.csv has every value, W&B may lack some")

    def _warn(self, what: str, sentence: str) -> None:
        if what not in self._said:
            self._said.add(what)
            rank_zero_warn(f"{sentence}. `wandb sync {self.folder}` sends what it has" if self.folder else sentence)

    # -- in the courier's thread -----------------------------------------------------------------------------------

    def _open(self) -> None:
        self._clerk = hire()
        program, arguments = command()
        opened = self._call(
            "open",
            root=self.root,
            mode=self.mode,
            patience=self.patience,
            goes_on=self._past is not None,
            id=self.run_id,
            config=self._config,
            program=program,
            arguments=arguments,
            process=os.getpid(),
            **self.settings,
        )
        self._clerk.service = opened.service
        self._folder, self._unreachable = opened.folder, opened.unreachable

    def _hand_over(self) -> None:
        online = self.mode == "online" and self._unreachable is None
        self._call("hand_over", self._past, online, self._cut_off)

    def _call(self, method: str, *args: Any, **named: Any) -> Any:
        assert self._clerk is not None
        return self._clerk.call(method, *args, **named)

    def _close(self, exit_code: int) -> None:
        if self._clerk is not None:
            self._call("close", exit_code)
