"""The pages show what the benchmarks recorded, and nothing that was copied by hand."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = (
    "cold_start",
    "critical_sharpness",
    "logging_cost",
    "logging_waits",
    "missed_eigenvalues",
    "training_step",
    "update_cosines",
)
ENGINE = {"results.json": "curvature.md", "results_gpu.json": "curvature_gpu.md"}


@pytest.fixture(autouse=True)
def paths(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("benchmarks", "benchmarks/curvature_engine"):
        monkeypatch.syspath_prepend(str(ROOT / folder))


def recorded(name: str) -> tuple[str, dict[str, str]]:
    """The page of a benchmark, and what its results say there."""
    if name in ENGINE:
        result = json.loads((ROOT / "benchmarks" / "curvature_engine" / name).read_text())
        return ENGINE[name], {"measured": importlib.import_module("report").markdown(result)}
    script = importlib.import_module(name)
    return script.PAGE, script.tables(json.loads((ROOT / "benchmarks" / f"{name}.json").read_text()))


@pytest.mark.parametrize("name", [*SCRIPTS, *ENGINE])
def test_a_page_shows_what_was_recorded(name: str, tmp_path: Path) -> None:
    place = importlib.import_module("publication").place
    page, tables = recorded(name)
    copy = tmp_path / page
    shutil.copy(ROOT / "docs" / page, copy)
    for table, text in tables.items():
        place(copy, table, text)
    assert copy.read_text() == (ROOT / "docs" / page).read_text()
    place(copy, next(iter(tables)), "another")
    assert copy.read_text() != (ROOT / "docs" / page).read_text()


@pytest.mark.parametrize(
    ("count", "least", "most"), [(1, 1, 1), (5, 1, 5), (6, 1, 6), (9, 2, 8), (15, 4, 12), (20, 6, 15), (25, 8, 18)]
)
def test_a_medians_interval_is_of_the_order_statistics_of_the_sign_test(count: int, least: int, most: int) -> None:
    """Known: e.g. Conover, "Practical Nonparametric Statistics", table of the binomial distribution at p = 1/2."""
    interval = importlib.import_module("logging_cost").interval
    values = [float(number) for number in range(count, 0, -1)]
    assert interval(values) == (least, most)


def test_the_time_of_a_call_inside_another_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = importlib.import_module("logging_waits")
    clock = [0.0]
    monkeypatch.setattr(waits.time, "perf_counter", lambda: clock[0])
    stopwatch = waits.Stopwatch()

    def pass_time(seconds: float) -> float:
        clock[0] += seconds
        return seconds

    save = stopwatch.hold("rows", pass_time)

    def close() -> None:
        pass_time(2.0)
        save(1.0)

    assert save(4.0) == 4.0
    pass_time(8.0)
    stopwatch.hold("end", close)()
    assert stopwatch.seconds == {"start": 0.0, "rows": 4.0, "end": 3.0}
