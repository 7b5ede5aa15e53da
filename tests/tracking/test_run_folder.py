"""What a run leaves is read back as it was meant."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from eoc.tracking.run_folder import (
    CHECKPOINT,
    CONFIG,
    FIGURE,
    LOCK,
    METRICS,
    SETTINGS,
    SUMMARY,
    Damaged,
    has_result,
    read_metrics,
    read_settings,
    read_summary,
    write_json,
)
from support import trained


def same(first: list[float], second: list[float]) -> bool:
    return len(first) == len(second) and all(a == b or (a != a and b != b) for a, b in zip(first, second, strict=True))


def metrics(folder: Path, text: str) -> dict[str, list[float]]:
    (folder / METRICS).write_text(text)
    return read_metrics(folder)


def test_columns_are_sorted_by_step_and_missing_values_are_nan(tmp_path: Path) -> None:
    columns = metrics(tmp_path, "step,a,b\n2,5.0,\n0,1.0,nan\n10,inf,7\n")
    assert columns["step"] == [0, 2, 10]
    assert columns["a"] == [1.0, 5.0, math.inf]
    assert same(columns["b"], [math.nan, math.nan, 7.0])


def test_of_rows_with_the_same_step_the_last_one_counts(tmp_path: Path) -> None:
    columns = metrics(tmp_path, "step,a,b\n0,1,1\n1,2,2\n2,3,3\n1,20,\n")
    assert columns["step"] == [0, 1, 2]
    assert columns["a"] == [1, 20, 3]
    assert same(columns["b"], [1, math.nan, 3])


@pytest.mark.parametrize("torn", ["", "1", "1,", "1,2"])
def test_a_torn_last_line_is_left_out(torn: str, tmp_path: Path) -> None:
    assert metrics(tmp_path, f"step,a,b\n0,1,2\n{torn}") == {"step": [0], "a": [1], "b": [2]}


def test_a_file_without_rows_has_columns_without_values(tmp_path: Path) -> None:
    assert metrics(tmp_path, "step,a\n") == {"step": [], "a": []}
    assert metrics(tmp_path, "") == {}


def test_a_folder_without_metrics_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"metrics\.csv"):
        read_metrics(tmp_path)


def test_json_is_strict_and_written_in_one_move(tmp_path: Path) -> None:
    path = tmp_path / SUMMARY
    path.write_text("an older one")
    content = {"a": math.nan, "b": [1, math.inf, {"c": -math.inf, "d": 0.1}], "e": "λ", "f": None, "g": (True, 2)}
    write_json(path, content)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    read = json.loads(path.read_text(), parse_constant=refuse)
    assert read == {"a": None, "b": [1, None, {"c": None, "d": 0.1}], "e": "λ", "f": None, "g": [True, 2]}
    assert [file.name for file in tmp_path.iterdir()] == [SUMMARY]


def test_content_that_is_not_json_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / SUMMARY
    path.write_text("{}")
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == "{}"


RESULT = {"status": "completed", "diverged": None, "steps": 3, "final": {}, "best": {}, "wall_seconds": 1.5}
RESULT |= {"parameters": 7}


def damage(path: Path, content: bytes, read: Callable[[Path], object]) -> str:
    """What is said of a file with this content when its folder is read."""
    path.write_bytes(content)
    with pytest.raises(Damaged) as caught:
        read(path.parent)
    return str(caught.value).removeprefix(f"{path} is damaged: ")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty."),
        (b'{"status": "comp', "it is no JSON (Unterminated string starting at: line 1 column 12 (char 11))."),
        (b"[]", "it is no JSON object."),
        (b"{}", "status is missing in it, or something else than a run writes."),
        (b'{"status": 3}', "status is missing in it, or something else than a run writes."),
        (b"\xff\xfe", "it is no text in UTF-8."),
    ],
)
def test_a_damaged_summary_is_no_result_and_is_named(tmp_path: Path, content: bytes, why: str) -> None:
    assert damage(tmp_path / SUMMARY, content, read_summary) == why
    assert not has_result(tmp_path)


def test_a_result_is_a_whole_summary(tmp_path: Path) -> None:
    assert not has_result(tmp_path)
    assert not has_result(tmp_path / "nowhere")
    write_json(tmp_path / SUMMARY, RESULT)
    assert has_result(tmp_path)
    assert read_summary(tmp_path) == RESULT


def test_damaged_settings_are_named(tmp_path: Path) -> None:
    (tmp_path / SETTINGS).write_text('{"identity": "x", "choices": {}}')
    with pytest.raises(Damaged, match="config is missing in it"):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a,b\n1,2\n", "it has no column step."),
        (b"step,a\n0,word\n", "something else than a number stands in it (could not convert string to float: 'word')."),
        (b"step,a\n,1\n", "something else than a number stands in it (invalid literal for int() with base 10: '')."),
        (b"step,a\n0,\xff\n", "it is no text in UTF-8."),
    ],
)
def test_damaged_metrics_are_named(tmp_path: Path, content: bytes, why: str) -> None:
    assert damage(tmp_path / METRICS, content, read_metrics) == why


def test_json_is_on_the_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append("fsync"), sync(file)))
    monkeypatch.setattr(Path, "replace", lambda path, to: (done.append("replace"), replace(path, to)))
    write_json(tmp_path / SUMMARY, RESULT)
    assert done == ["fsync", "replace"]


def test_a_run_leaves_what_it_should(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    files = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    assert files == {METRICS, SUMMARY, FIGURE, CHECKPOINT, CONFIG, SETTINGS, LOCK}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    summary = run.summary
    expected = {"status", "diverged", "steps", "final", "best", "stability_limit", "unconverged_probes", "parameters"}
    expected |= {"widths", "seed", "overrides", "wall_seconds", "device", "dtype", "versions", "git"}
    expected |= {"training_seconds", "process", "ended", "measured_at"}
    assert summary.keys() == expected
    assert summary["device"] == "cpu"
    assert 0 < summary["wall_seconds"] < 600
    assert "model.width=6" in summary["overrides"]
    assert {"python", "torch", "eoc"} <= summary["versions"].keys()
    assert None not in summary["versions"].values()
    if summary["git"] is not None:  # a source tree without its history has none
        assert len(summary["git"]["commit"]) == 40
        assert isinstance(summary["git"]["changed"], bool)
