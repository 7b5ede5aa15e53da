"""metrics.csv: every row at once, every value as it was, however the columns come."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eoc.tracking.csv_log import CSVLog
from eoc.tracking.run_folder import METRICS, read_metrics

Opener = Callable[[Path], CSVLog]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Open logs, and close them behind the test."""
    logs: list[CSVLog] = []

    def open_one(folder: Path) -> CSVLog:
        logs.append(CSVLog(str(folder)))
        return logs[-1]

    yield open_one
    for log in logs:
        log.finalize("success")


def text(folder: Path) -> str:
    return (folder / METRICS).read_text()


def test_a_row_is_there_as_soon_as_it_was_logged(opened: Opener, tmp_path: Path) -> None:
    log = opened(tmp_path / "deep" / "run")
    log.log_metrics({"a": 1.5, "b": 2}, step=0)
    assert text(tmp_path / "deep" / "run") == "step,a,b\n0,1.5,2\n"
    log.log_metrics({"b": 3, "a": 0.1}, step=1)
    assert text(tmp_path / "deep" / "run") == "step,a,b\n0,1.5,2\n1,0.1,3\n"


def test_what_is_missing_is_empty_and_a_new_column_lengthens_the_header(opened: Opener, tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.log_metrics({"a": 1.0}, step=0)
    log.log_metrics({"b": 2.0}, step=1)
    log.log_metrics({"a": 3.0, "c": math.inf}, step=2)
    assert text(tmp_path) == "step,a,b,c\n0,1.0,,\n1,,2.0,\n2,3.0,,inf\n"
    assert [path.name for path in tmp_path.iterdir()] == [METRICS]


def test_values_come_back_bit_for_bit(opened: Opener, tmp_path: Path) -> None:
    values = [1 / 3, 1e-300, 5e-324, 1.7976931348623157e308, -0.1 - 0.2, math.inf, -math.inf]
    log = opened(tmp_path)
    for step, value in enumerate(values):
        log.log_metrics({"x": value}, step=step)
    assert read_metrics(tmp_path) == {"step": list(range(7)), "x": values}


def test_rows_go_on_behind_a_closed_file(opened: Opener, tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.log_metrics({"a": 1}, step=0)
    log.finalize("success")
    log.finalize("success")
    log.log_metrics({"a": 2}, step=1)
    assert text(tmp_path) == "step,a\n0,1\n1,2\n"


def test_a_new_run_in_an_old_folder_begins_anew(opened: Opener, tmp_path: Path) -> None:
    opened(tmp_path).log_metrics({"old": 1}, step=0)
    opened(tmp_path).log_metrics({"new": 2}, step=0)
    assert text(tmp_path) == "step,new\n0,2\n"


def written(log: CSVLog, steps: int) -> None:
    for step in range(steps):
        log.log_metrics({"a": 10 * step, **({"b": 1} if step == 2 else {})}, step=step)


@pytest.mark.parametrize("place", ["same", "other"])
def test_a_run_that_goes_on_takes_the_rows_below_its_step(opened: Opener, place: str, tmp_path: Path) -> None:
    old = tmp_path / "same"
    written(opened(old), 12)
    before = text(old)
    log = opened(tmp_path / place)
    log.resume(old, before=2)
    log.log_metrics({"a": -1, "c": 7}, step=2)
    assert text(tmp_path / place) == "step,a,b,c\n0,0,,\n1,10,,\n2,-1,,7\n"
    if place == "other":
        assert text(old) == before


@pytest.mark.parametrize("torn", ["1", "10", "10,1", "10,100,"])
def test_a_torn_last_row_is_no_row(opened: Opener, torn: str, tmp_path: Path) -> None:
    # Killed while writing "10,100,": whatever is there of it has no end of line.
    folder = tmp_path
    written(opened(folder), 10)
    with (folder / METRICS).open("a") as file:
        file.write(torn)
    log = opened(folder)
    log.resume(folder, before=11)
    log.log_metrics({"a": 5}, step=10)
    columns = read_metrics(folder)
    assert columns["step"] == list(range(11))
    assert columns["a"] == [10.0 * step for step in range(10)] + [5.0]
    assert text(folder).count("\n") == 12


@pytest.mark.parametrize(
    ("line", "steps", "said"),
    [(1, [], "that of this run begins at step 3"), (3, [0, 2], "1 of its lines are left out")],
)
def test_damaged_lines_are_left_out_with_a_word(
    opened: Opener, line: int, steps: list[int], said: str, tmp_path: Path
) -> None:
    written(opened(tmp_path), 3)
    lines = (tmp_path / METRICS).read_bytes().splitlines(keepends=True)
    lines[line - 1] = lines[line - 1][:-1] + b"\xff\n"
    (tmp_path / METRICS).write_bytes(b"".join(lines))
    log = opened(tmp_path)
    with pytest.warns(UserWarning, match=rf"metrics\.csv is damaged: {said}"):
        log.resume(tmp_path, before=3)
    log.log_metrics({"a": 5}, step=3)
    columns = read_metrics(tmp_path)
    assert columns["step"] == [*steps, 3]
    assert set(columns) - {"b"} == {"step", "a"}


def test_where_nothing_was_written_there_is_nothing_to_take(opened: Opener, tmp_path: Path) -> None:
    log = opened(tmp_path)
    with pytest.warns(UserWarning, match="nowhere holds no metrics.csv: that of this run begins at step 5"):
        log.resume(tmp_path / "nowhere", before=5)
    assert not (tmp_path / METRICS).exists()
    log.log_metrics({"a": 1}, step=5)
    assert text(tmp_path) == "step,a\n5,1\n"
