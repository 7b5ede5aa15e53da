"""The notebooks run from top to bottom, and come with their outputs."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
# jupyter_client warns of its own future, which is not the notebooks' business
@pytest.mark.filterwarnings("ignore")
def test_notebook_runs_and_prints_what_it_shows(path: Path) -> None:
    kept = nbformat.read(path, as_version=4)
    assert kept.cells[-1].cell_type == "markdown"
    assert all(cell.outputs for cell in kept.cells[1:] if cell.cell_type == "code" and "print(" in cell.source)
    again = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(again, timeout=180, kernel_name="python3").execute(cwd=str(FOLDER))
    for before, after in zip(kept.cells, again.cells, strict=True):
        if before.cell_type == "code":
            assert len(printed(before)) == len(printed(after))


def printed(cell: nbformat.NotebookNode) -> list[str]:
    """Lines, however the kernel has cut them into pieces on their way."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream").splitlines()
