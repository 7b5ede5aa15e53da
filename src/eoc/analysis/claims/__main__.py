"""``python -m eoc.analysis.claims RUNS --to RESULTS``: what a reproduction's sweeps say, claim by claim."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from eoc.analysis.claims.documents import fill
from eoc.analysis.claims.results import (
    CLAIMS,
    EXPERIMENTS,
    describe,
    draw,
    judge_all,
    read_cells,
    reduce_runs,
    together,
)
from eoc.analysis.table import read_runs
from eoc.errors import InvalidInput, RunFailure


def main(arguments: list[str] | None = None) -> int:
    """Reduce the sweeps that are there, draw, judge, and print the table; returns the exit code."""
    try:
        return _main(arguments)
    except (InvalidInput, RunFailure) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _main(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m eoc.analysis.claims", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="?", help="folder with one sweep a name of an experiment")
    parser.add_argument("--to", type=Path, required=True, help="folder of the results")
    parser.add_argument("--dataset", help="what the results call the data (default: as before, or the folder's name)")
    parser.add_argument("--options", default="", help="further words of the commands, such as dataset=mnist")
    parser.add_argument("--fill", type=Path, nargs="*", default=[], help="documents whose tables are filled anew")
    given = parser.parse_args(arguments)
    recorded = given.to / CLAIMS
    before = json.loads(recorded.read_text()) if recorded.exists() else {}
    before.pop("claims", None)
    if given.runs is None:
        if not before:
            print(f"error: {recorded} is not there; name the folder of the runs too", file=sys.stderr)
            return 2
        about = before
    else:
        there = {name: given.runs / name for name in EXPERIMENTS if (given.runs / name).is_dir()}
        if not there:
            print(f"error: {given.runs} has no folder called {', '.join(EXPERIMENTS)}", file=sys.stderr)
            return 2
        runs = {name: read_runs(folder) for name, folder in there.items()}
        for name, frame in runs.items():
            reduce_runs(name, frame, given.to)
        dataset = given.dataset or before.get("dataset", given.to.absolute().name)
        commands = {name: f"python train.py experiment={name} {given.options}".strip() for name in there}
        about = together(before, describe(dataset, commands, runs))
    found = judge_all(given.to, about)
    for name in dict.fromkeys(name for name, _ in found):
        draw(name, read_cells(name, given.to), given.to, about["dataset"])
    for name, claim in found:
        print(f"{claim.verdict:<13} {name}/{claim.name}: {claim.measured} ({claim.criterion})")
    print(f"{given.to}: claims.md, claims.json, figures and cells")
    for document in given.fill:
        print(f"{document}: {'filled' if fill(document, given.to.parent) else 'as it was'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
