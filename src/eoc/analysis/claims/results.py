"""From sweep folders to ``results/``: cells as CSV, figures, and the table of claims."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from eoc.analysis.claims import (
    catapult,
    concentration,
    coordinate_check,
    cosines,
    depth_curvature,
    geometric_schedule,
    kappa_transfer,
    lr_transfer,
)
from eoc.analysis.claims.base import UNKNOWN, Claim
from eoc.analysis.claims.drawing import legible, save_png
from eoc.analysis.style import figure_style
from eoc.analysis.table import read_runs
from eoc.errors import InvalidInput

EXPERIMENTS: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        depth_curvature,
        coordinate_check,
        concentration,
        lr_transfer,
        kappa_transfer,
        cosines,
        catapult,
        geometric_schedule,
    )
}
CLAIMS, TABLE = "claims.json", "claims.md"
BY_ACTIVATION = ("depth_curvature", "concentration")  # the experiments that tell activations apart


def reduce_runs(experiment: str, runs: pd.DataFrame, results: Path) -> pd.DataFrame:
    """Write ``<experiment>.csv``, one row a run that ended, sorted by its settings; return it.

    What an experiment keeps of its runs' course becomes ``<experiment>_course.csv``.

    Raises:
        InvalidInput: if the runs have several activations, which the experiment does not tell apart.
    """
    ended = runs[runs["status"].isin(["completed", "diverged"])].reset_index(drop=True)
    module = EXPERIMENTS[experiment]
    cells = module.cells(ended)
    tried = sorted(map(str, cells["model.activation"].unique()))
    if len(tried) > 1 and experiment not in BY_ACTIVATION:
        rule = f"{experiment} is judged for one of them at a time; keep the runs of each in a folder of its own"
        raise InvalidInput("model.activation", ", ".join(tried), rule)
    results.mkdir(parents=True, exist_ok=True)
    if hasattr(module, "course_table"):
        found = module.course_table(ended, cells)
        found.to_csv(results / f"{experiment}_course.csv", index=False, float_format="%.4g")
    settings = list(cells.columns[: list(cells.columns).index("status")])
    cells = cells.sort_values(settings, kind="stable", ignore_index=True)
    cells.to_csv(results / f"{experiment}.csv", index=False, float_format="%.7g")
    return read_cells(experiment, results)


def read_cells(experiment: str, results: Path) -> pd.DataFrame:
    """Read ``<experiment>.csv``."""
    return pd.read_csv(results / f"{experiment}.csv")


def draw(experiment: str, cells: pd.DataFrame, results: Path, dataset: str) -> None:
    """Draw ``<experiment>.png`` and ``.svg``; a table of its own becomes ``<experiment>_table.csv``."""
    module = EXPERIMENTS[experiment]
    with figure_style():
        figures = {experiment: module.figure(cells)}
        if (results / f"{experiment}_course.csv").exists():
            figures[f"{experiment}_course"] = module.course_figure(pd.read_csv(results / f"{experiment}_course.csv"))
        for name, figure in figures.items():
            figure.suptitle(f"{figure.get_suptitle()} · {dataset}", fontsize=10)
            legible(figure)
            save_png(figure, results / f"{name}.png")
            figure.savefig(results / f"{name}.svg", metadata={"Date": None})
    for name in ("table", "drifts", "checks"):
        if hasattr(module, name):
            tabulated = getattr(module, name)(cells)
            tabulated.to_csv(results / f"{experiment}_{name}.csv", index=False, float_format="%.5g")


def judge_all(results: Path, about: dict[str, Any]) -> list[tuple[str, Claim]]:
    """Judge every experiment whose cells are in ``results``; write ``claims.json`` and ``claims.md``.

    Args:
        results: the folder of the cells.
        about: what made them, see `describe`.
    """
    there = [name for name in EXPERIMENTS if (results / f"{name}.csv").exists()]
    found = [(name, claim) for name in there for claim in EXPERIMENTS[name].claims(read_cells(name, results))]
    rows = [{"experiment": name, **_plain(dataclasses.asdict(claim))} for name, claim in found]
    (results / CLAIMS).write_text(json.dumps({**about, "claims": rows}, indent=1, ensure_ascii=False) + "\n")
    (results / TABLE).write_text(markdown(found, about))
    return found


def report(experiment: str, folder: Path | str) -> None:
    """Print what the sweep in ``folder`` says of an experiment's claims, and draw its figure there.

    For a sweep that has just ended, of any grid: a claim whose runs are missing is not measured.
    """
    folder = Path(folder)
    try:
        cells = reduce_runs(experiment, read_runs(folder), folder)
    except InvalidInput as error:  # the runs are there all the same
        print(f"not judged: {error}")
        return
    module = EXPERIMENTS[experiment]
    with figure_style():
        figure = module.figure(cells)
        legible(figure)
        save_png(figure, folder / f"{experiment}.png")
    if hasattr(module, "checks"):
        print(module.checks(cells).round(2).to_string(index=False))
    found = module.claims(cells)
    known = [claim for claim in found if claim.verdict != UNKNOWN]
    for claim in known:
        print(f"{claim.verdict:<13} {claim.name}: {claim.measured} ({claim.criterion})")
    if len(known) < len(found):
        print(f"{len(found) - len(known)} of the experiment's claims rest on runs, or on metrics, that are not there")
    print(f"figure    {folder / experiment}.png")


def markdown(found: Sequence[tuple[str, Claim]], about: dict[str, Any]) -> str:
    """The claims as one table in Markdown, by experiment, with the commands that made them."""
    runs = [f"`{name}`: {said}  " for name, said in about["runs"].items()]
    lines = [f"# Claims on {about['dataset']}", "", *runs, ""]
    lines += ["| experiment | claim | whose | criterion | measured [95%] | verdict |", "|---|---|---|---|---|---|"]
    for experiment, claim in found:
        remark = f" *{claim.remark}.*" if claim.remark else ""
        cells = (f"`{experiment}`", claim.claim + remark, claim.source, claim.criterion, str(claim.measured))
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} | **{claim.verdict}** |")
    lines += ["", "Commands:", "", "```sh"]
    lines += [about["commands"][name] for name in dict.fromkeys(name for name, _ in found)]
    return "\n".join([*lines, "```", ""])


def describe(dataset: str, commands: dict[str, str], runs: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """What made the results: counts of runs, seeds, examples and precision by experiment."""
    said = {}
    for name, frame in runs.items():
        status = frame["status"].value_counts().to_dict()
        counts = ", ".join(f"{count} {word}" for word, count in status.items())
        examples = sorted(frame["dataset.n_train"].dropna().unique())
        cell = ["model", "model.depth", "model.width", "model.richness", "schedule", "trainer.max_steps"]
        each = frame.groupby([name for name in cell if name in frame])["seed"].nunique()
        seeds = f"{each.min()}" if each.min() == each.max() else f"{each.min()} to {each.max()}"
        sizes = " or ".join(f"{int(each):,}" for each in examples)
        said[name] = f"{len(frame)} runs ({counts}), {seeds} seeds a setting, {sizes} examples, full batch, float32"
    return {"dataset": dataset, "runs": said, "commands": commands}


def together(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What made the results when some experiments were run again, and the others are those of before."""
    merged = dict(now)
    for part in ("runs", "commands"):
        known = {**before.get(part, {}), **now[part]}
        merged[part] = {name: known[name] for name in EXPERIMENTS if name in known}
    return merged


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value
