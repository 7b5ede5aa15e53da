"""``python -m eoc.analysis status|table|plot|report DIR``: what a run, a sweep or a folder of them has come to."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pandas as pd

from eoc.analysis import report
from eoc.analysis.group_figure import draw_groups
from eoc.analysis.grouping import column, grouped, numbers, pooled, varying, written
from eoc.analysis.status import status
from eoc.analysis.table import read_histories, read_runs
from eoc.errors import InvalidInput, RunFailure

ENDINGS = (".png", ".svg", ".pdf")
METRICS = ["train/loss", "test/accuracy"]


def main(words: list[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    words = sys.argv[1:] if words is None else words
    if words[:1] == ["report"]:
        return report.main(words[1:])
    given = _parser().parse_args(words)
    try:
        runs = _read(given.folder)
        if given.command == "status":
            print(status(runs))
        elif given.command == "table":
            print(_table(runs, given.group_by, given.metric, csv=given.csv))
        else:
            print(_plot(runs, given))
        sys.stdout.flush()
    except BrokenPipeError:  # as with ``| head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to say at the end
    except (FileNotFoundError, InvalidInput, RunFailure) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m eoc.analysis", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (
        ("status", "how many runs completed, diverged, failed, are running or were cut off, and which"),
        ("table", "metrics by group: mean ± 95% interval over the runs of each"),
        ("plot", "a metric against a setting, another metric or the step"),
    ):
        command = commands.add_parser(name, help=about.replace("%", "%%"), description=about)
        command.add_argument("folder", type=Path, metavar="DIR", help="of a run, a sweep, or above them")
        if name == "table":
            command.add_argument("--group-by", type=_names, help="settings, a,b (default: all that vary but the seed)")
            command.add_argument("--metric", type=_names, default=METRICS, help=f"default: {','.join(METRICS)}")
            command.add_argument("--csv", action="store_true", help="print comma-separated values")
        elif name == "plot":
            command.add_argument("--x", default="step", help="a setting, a metric, or step (the default)")
            command.add_argument("--y", default="train/loss", help="a metric (default: train/loss)")
            command.add_argument("--hue", help="the setting whose values are a curve each")
            command.add_argument("--to", type=Path, help="file, .png, .svg or .pdf (default: DIR/plot.png)")
    about = "a page with all curves, to browse, keep or send (--help: its own options)"
    commands.add_parser("report", help=about, add_help=False)
    return parser


def _names(words: str) -> list[str]:
    return [word for word in words.split(",") if word]


def _read(folder: Path) -> pd.DataFrame:
    try:
        return read_runs(folder)
    except OSError as error:
        if error.strerror is None:  # there is no run
            raise
        which = "it" if error.filename in (None, str(folder), folder) else error.filename
        raise InvalidInput("DIR", str(folder), f"{which} cannot be read ({error.strerror})") from error


def _table(runs: pd.DataFrame, by: list[str] | None, metrics: list[str], *, csv: bool) -> str:
    by = [name for name in varying(runs) if name != "seed"] if by is None else by
    by = [column(runs, "--group-by", name) for name in by]
    metrics = [numbers(runs, "--metric", name) for name in metrics]
    table = grouped(runs, by, metrics)
    note = pooled(runs[runs["status"] == "completed"], by)
    if csv:
        _remark(note)
        return table.to_csv(index=False).rstrip()
    return "\n".join([written(table, metrics), *([note] if note else [])])


def _plot(runs: pd.DataFrame, given: argparse.Namespace) -> Path:
    x = given.x if given.x == "step" else column(runs, "--x", given.x)
    hue = None if given.hue is None else column(runs, "--hue", given.hue)
    drawn = runs[runs["status"] != "diverged"] if x == "step" else runs[runs["status"] == "completed"]
    y = _by_step(runs, drawn, given.y) if x == "step" else numbers(runs, "--y", given.y)
    to = given.to or given.folder / "plot.png"
    if to.suffix.lower() not in ENDINGS:
        raise InvalidInput("--to", str(to), f"its ending must be one of {', '.join(ENDINGS)}")
    try:
        path = draw_groups(runs, x, y, hue, to)
    except OSError as error:
        rule = f"it cannot be written ({error.strerror or error}); name another file with --to"
        raise InvalidInput("--to", str(to), rule) from error
    _remark(pooled(drawn, [name for name in (x, hue) if name not in (None, "step")]))
    lacking = 0 if x == "step" else int(drawn[x].isna().sum())
    _remark(f"{lacking} of {len(drawn)} completed runs have no {x} and are left out" if lacking else "")
    return path


def _by_step(runs: pd.DataFrame, drawn: pd.DataFrame, y: str) -> str:
    """Return ``y`` if a history has it, as those of runs that go on may before any has completed."""
    if any(read_histories(drawn.iloc[[row]], [y])[y].notna().any() for row in range(len(drawn))):
        return y
    rule = "with --x=step it must be a metric, and no run beside diverged ones has a value of it at any step"
    raise InvalidInput("--y", numbers(runs, "--y", y), rule)


def _remark(note: str) -> None:
    if note:
        print(note, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
