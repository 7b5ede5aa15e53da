"""Figures of a sweep into W&B: ``python -m eoc.tracking.figures runs/sweeps/DAY/TIME``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path

from eoc.errors import InvalidInput, RunFailure
from eoc.tracking.wandb_log import WandbLog
from eoc.tracking.wandb_service import reason


def log_figures(folder: Path, runs: Path, project: str = "eoc", mode: str = "offline") -> list[Path]:
    """Log the PNG files that lie in a sweep's folder as the image ``sweep`` of a W&B run in the sweep's group.

    Args:
        folder: of the sweep.
        runs: the folder that the sweep and W&B's ``wandb/`` lie in.
        project: W&B project.
        mode: ``offline``, ``online`` or ``disabled``.

    Returns:
        The figures.

    Raises:
        InvalidInput: if there are none.
        RunFailure: if W&B did not take them.
    """
    figures = sorted(folder.glob("*.png"))
    if not figures:
        raise InvalidInput("folder", str(folder), "it has no figures (*.png)")
    inside, whole = folder.absolute(), runs.absolute()
    group = str(inside.relative_to(whole)) if inside.is_relative_to(whole) else inside.name
    name = f"figures of {group}"
    log = WandbLog(project=project, mode=mode, root=str(whole), name=name, group=group, job_type="figures")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "W&B stopped")  # what a run would say, which goes on
        log.log_image("sweep", list(figures))
        failure = log.finish()
    if failure is not None:
        raise RunFailure(f"W&B did not take the figures of {folder} into --runs={runs} ({reason(failure)}).")
    return figures


def main(words: list[str] | None = None) -> int:
    """Log what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m eoc.tracking.figures", description=__doc__)
    parser.add_argument("folder", type=Path, help="of a sweep, with figures (*.png)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where wandb/ lies (default: %(default)s)")
    parser.add_argument("--project", default="eoc", help="W&B project (default: %(default)s)")
    parser.add_argument(
        "--mode", default=os.environ.get("WANDB_MODE", "offline"), help="default: WANDB_MODE or offline"
    )
    chosen = parser.parse_args(words)
    try:
        for figure in log_figures(chosen.folder, chosen.runs, chosen.project, chosen.mode):
            print(figure)
    except (InvalidInput, RunFailure) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
