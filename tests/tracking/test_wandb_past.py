"""Which rows of metrics.csv W&B is handed again when a run goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eoc.tracking.run_folder import METRICS
from eoc.tracking.wandb_past import BLOCK, TAIL, Past, was_cut_off


def past(folder: Path, rows: int, before: int, columns: int = 1) -> Past:
    names = [f"m{i}" for i in range(columns)]
    lines = [",".join(["step", *names])] + [",".join([str(t), *["0.5"] * columns]) for t in range(rows)]
    (folder / METRICS).write_text("\n".join(lines) + "\n")
    return Past(folder, before)


def test_a_server_is_told_what_it_does_not_know(tmp_path: Path) -> None:
    rows = past(tmp_path, rows=8, before=6).unknown_to(3)
    assert rows == [{"step": 4, "m0": 0.5}, {"step": 5, "m0": 0.5}]
    assert [row["step"] for row in past(tmp_path, rows=8, before=6).unknown_to(-1)] == list(range(6))
    (tmp_path / METRICS).write_text("torn")
    assert Past(tmp_path, 6).unknown_to(5) == []  # nothing is read where nothing is missing
    assert Past(tmp_path, 6).unknown_to(2) == []  # that is said where metrics.csv goes on
    (tmp_path / METRICS).unlink()
    assert Past(tmp_path, 6).tail() == []


def test_missing_values_stay_missing(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text("step,a,b\n0,,inf\n1,2.5,\n")
    assert Past(tmp_path, 2).tail() == [{"step": 0, "b": float("inf")}, {"step": 1, "a": 2.5}]


def test_damaged_and_torn_rows_are_left_out(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text('step,a,"b,c"\n0,1.0,2.0\n1,x,2.0\n2,1.0\n\nx,1,1\n3,\0,1\n4,,5.5\n5,1.0,2')
    assert Past(tmp_path, 9).tail() == [{"step": 0, "a": 1.0, "b,c": 2.0}, {"step": 4, "b,c": 5.5}]
    assert Past(tmp_path, 9).unknown_to(0) == [{"step": 4, "b,c": 5.5}]


@pytest.mark.parametrize("columns", [1, 60])
def test_of_a_long_run_the_tail_alone_is_logged_again(columns: int, tmp_path: Path) -> None:
    steps = [row["step"] for row in past(tmp_path, rows=9000, before=8000, columns=columns).tail()]
    needed = -(-TAIL // (columns + 1))  # rows with as many values, the step among them
    assert steps == list(range(8000 - needed, 8000))


def test_the_file_written_last_tells_whether_a_run_was_cut_off(tmp_path: Path) -> None:
    assert was_cut_off(tmp_path, "ab")  # killed before W&B had begun
    for number, (name, size, cut) in enumerate(
        [
            ("offline-run-20260101_000000-ab", 3 * BLOCK, True),
            ("run-20260101_000001-ab", 3 * BLOCK + 50, False),
            ("run-20260101_000001-ab-1", 7, True),
            ("offline-run-20260101_000002-ab", 900, False),
        ]
    ):
        file = tmp_path / "wandb" / name / "run-ab.wandb"
        file.parent.mkdir(parents=True)
        file.write_bytes(bytes(size))
        os.utime(file, (number, number))
        assert was_cut_off(tmp_path, "ab") == cut
    assert was_cut_off(tmp_path, "abc")
