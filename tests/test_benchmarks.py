"""The pages show what the benchmarks recorded, and nothing that was copied by hand."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ("cold_start", "critical_sharpness", "logging_cost", "missed_eigenvalues", "update_cosines")
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
