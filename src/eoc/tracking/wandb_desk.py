"""One W&B run, as seen from the process that W&B works in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eoc.tracking.wandb_past import Past, mark_cut_off
from eoc.tracking.wandb_service import (
    check_complete,
    end_service,
    make_root,
    open_run,
    reason,
    service_has_ended,
    service_process,
)


@dataclass(frozen=True)
class Opened:
    """What is known of a run once it is open.

    Args:
        folder: where W&B keeps it on disk.
        unreachable: why an online run is logged offline; None where it is not.
        service: the process of W&B's service.
    """

    folder: Path
    unreachable: str | None
    service: int | None


class Desk:
    """Opens a run, takes what there is to log, and closes it."""

    def __init__(self) -> None:
        self._run: Any = None
        self._next = 0  # the number that W&B gives its next row

    def open(self, root: Path, mode: str, patience: float, goes_on: bool, **given: Any) -> Opened:
        """Open a run in W&B's folder under ``root``; offline where the server does not answer in ``patience`` s."""
        make_root(root)
        given |= {"dir": str(root), "patience": patience}
        attached = {"mode": mode, "resume": "allow" if goes_on and mode == "online" else None}
        unreachable = None
        try:
            self._run = _opened(**attached, **given)
        except Exception as error:
            if mode != "online":
                raise
            end_service()  # it keeps the run's id
            self._run, unreachable = open_run(mode="offline", resume=None, **given), reason(error)
        self._next = self._run.starting_step
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")
        return Opened(self._folder(), unreachable, getattr(service_process(), "pid", None))

    def hand_over(self, past: Past, online: bool, cut_off: bool) -> None:
        """Log those rows of a run that goes on that W&B may lack."""
        if online:
            self.log(past.unknown_to(int(self._run.summary.get("step", -1))))
        elif cut_off:
            self.log(past.tail())

    def log(self, rows: list[dict[str, Any]]) -> None:
        """Log rows."""
        for row in rows:
            self._run.log(row, step=self._place(row["step"]))

    def log_images(self, key: str, paths: list[str]) -> None:
        """Log figures."""
        import wandb

        self._run.log({key: [wandb.Image(path) for path in paths]})

    def log_summary(self, values: dict[str, Any]) -> None:
        """Set summary values."""
        self._run.summary.update(values)

    def close(self, exit_code: int) -> None:
        """Close the run, if it is open; raise an OSError where the disk lacks some of it."""
        run, self._run = self._run, None
        if run is not None:
            run.finish(exit_code=exit_code)
            check_complete(Path(run.dir).parent)

    def abandon(self) -> None:
        """Close a run whose process has ended without closing it; what it had not handed over is lost."""
        if self._run is not None:
            mark_cut_off(self._folder())
            self.close(exit_code=1)

    def _folder(self) -> Path:
        return Path(self._run.dir).parent

    def _place(self, step: int | None) -> int:
        """W&B's own number of this row: the step, or the next free one where that is taken.

        W&B leaves out, without a word, rows whose number it has passed: those that a resumed run replays.
        """
        place = self._next if step is None else max(step, self._next)
        self._next = place + 1
        return place


def _opened(**given: Any) -> Any:
    """Open a run; with a new service where that of the last run has ended since."""
    try:
        return open_run(**given)
    except Exception:
        if not service_has_ended():
            raise
        end_service()
        return open_run(**given)
