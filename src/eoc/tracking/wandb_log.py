"""Weights & Biases as a logger that needs neither account nor network, and neither stops nor slows a run."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_warn

from eoc.errors import InvalidInput, real, text
from eoc.tracking.courier import Courier
from eoc.tracking.wandb_past import Past, was_cut_off
from eoc.tracking.wandb_service import (
    check_complete,
    end_service,
    import_wandb,
    make_root,
    open_run,
    reason,
    service_process,
)

MODES = ("offline", "online", "disabled")
STARTING = 10.0  # s that W&B's service may take to start on a busy machine
CLOSING = 2.0  # s that it may take to close a run, beyond the patience that it and the last rows have
GATHERED = 1.0  # s over which rows are gathered: one by one they cost a run of short steps twice as much


class WandbLog(Logger):
    """One W&B run for one run folder, opened at the first row; x axis ``step`` for everything.

    Everything is handed to a thread of its own, the rows of a second together, so that a run waits for W&B at its end
    alone, and there not for long. A server that does not answer makes the run an offline one.

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
        self.mode = mode
        self.settings: dict[str, Any] = {
            "project": text("project", project),
            "name": _optional("name", name),
            "group": _optional("group", group),
            "job_type": _optional("job_type", job_type),
            "tags": list(tags),
            "entity": _optional("entity", entity),
        }
        self.root = Path(text("root", root)).absolute()
        self.patience = real("patience", patience, above=0.0)
        self.run_id: str | None = None
        self._past: Past | None = None  # of a run that goes on
        self._cut_off = False
        self._config: dict[str, Any] = {}
        self._run: Any = None
        self._rows: list[dict[str, Any]] = []  # not handed over yet
        self._handed_over = -math.inf  # when that was done last
        self._next = 0  # the number that W&B gives its next row
        self._courier: Courier | None = None
        self._unreachable: Exception | None = None  # why an online run is logged offline
        self._said: set[str] = set()

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
        return Path(self._run.dir).parent if self._run is not None else None

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

        def send() -> None:
            import wandb

            self._run.log({key: [wandb.Image(str(image)) for image in images]})

        self._send_rows()
        self._send(send)

    def log_summary(self, values: dict[str, Any]) -> None:
        """Set the run's summary values."""
        self._send_rows()
        if self._courier is not None:
            self._send(lambda: self._run.summary.update(values))

    def finish(self, exit_code: int = 0) -> BaseException | None:
        """Close the run, a lost one too, say what W&B may lack, return why; this process's next run opens its own."""
        self._send_rows()
        courier, self._courier = self._courier, None
        if courier is None:
            return None
        came_back = courier.finish(lambda: self._close(exit_code), seconds=self.patience, closing=CLOSING)
        self._say(courier.failure)
        process = service_process()
        if not came_back or (process is not None and process.poll() is not None):
            end_service()
        return courier.failure

    # -- in the main thread ----------------------------------------------------------------------------------------

    def _send_rows(self) -> None:
        if self._rows:
            rows, self._rows, self._handed_over = self._rows, [], time.monotonic()
            self._send(lambda: self._log(rows))

    def _send(self, errand: Callable[[], object]) -> None:
        if self.mode == "disabled":
            return
        if self._courier is None:
            self.run_id = self.run_id or secrets.token_hex(4)
            with suppress(Exception):  # it fails again in the courier, which says so
                import_wandb()  # while nothing else runs it takes a third of the time
            self._courier = Courier("wandb")
            self._courier.send(import_wandb, seconds=3 * STARTING)
            self._courier.send(self._open, seconds=self.patience + STARTING)
            if self._past is not None:
                past = self._past
                self._courier.send(lambda: self._hand_over(past), seconds=6 * STARTING)
        self._courier.send(errand, seconds=self.patience)
        self._say(self._courier.failure)

    def _say(self, failure: BaseException | None) -> None:
        """Say once each that the server is out of reach, and that something is lost."""
        if self._unreachable is not None:
            why = reason(self._unreachable)
            self._warn("unreachable", f"W&B cannot be reached ({why}); this run is logged offline")
        if failure is not None:
            self._warn("lost", f"W&B stopped ({reason(failure)}); metrics.csv has every value, W&B may lack some")

    def _warn(self, what: str, sentence: str) -> None:
        if what not in self._said:
            self._said.add(what)
            rank_zero_warn(f"{sentence}. `wandb sync {self.folder}` sends what it has" if self.folder else sentence)

    # -- in the courier's thread -----------------------------------------------------------------------------------

    def _open(self) -> None:
        make_root(self.root)
        try:
            self._run = self._init(self.mode)
        except Exception as error:
            if self.mode != "online":
                raise
            end_service()  # it keeps the run's id
            self._run = self._init("offline")
            self._unreachable = error
        self._next = self._run.starting_step
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def _hand_over(self, past: Past) -> None:
        if self.mode == "online" and self._unreachable is None:
            self._log(past.unknown_to(int(self._run.summary.get("step", -1))))
        elif self._cut_off:
            self._log(past.tail())

    def _init(self, mode: str) -> Any:
        resume = "allow" if self._past is not None and mode == "online" else None
        place = {"mode": mode, "dir": str(self.root), "id": self.run_id, "resume": resume}
        return open_run(self.patience, **self.settings, **place, config=self._config)

    def _log(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self._run.log(row, step=self._place(row["step"]))

    def _place(self, step: int | None) -> int:
        """W&B's own number of this row: the step, or the next free one where that is taken.

        W&B leaves out, without a word, rows whose number it has passed: those that a resumed run replays.
        """
        place = self._next if step is None else max(step, self._next)
        self._next = place + 1
        return place

    def _close(self, exit_code: int) -> None:
        if self._run is not None:
            self._run.finish(exit_code=exit_code)
            check_complete(Path(self._run.dir).parent)


def _optional(key: str, value: object) -> str | None:
    return None if value is None else text(key, value)
