"""Where a run is, said in lines where there is no terminal."""

from __future__ import annotations

import itertools
import os
import re
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from eoc.training.callbacks import progress
from support import NO_FIGURE, trained

LINE = re.compile(r"step (\d+) of 8: ([\d.e+]+) steps/s, loss ([\d.e+-]+)(?:, η·λ ([\d.]+))?, phase (\w+)")


def test_lines_say_step_loss_and_phase(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["callbacks.progress.line_seconds=0", "callbacks.progress.every=3", "schedule.kappa=1.99"]
    columns = trained(tmp_path / "edge", NO_FIGURE, *words).columns
    said = [LINE.fullmatch(line) for line in capsys.readouterr().err.splitlines()]
    assert [match and int(match[1]) for match in said] == [0, 3, 6]
    for match in filter(None, said):
        assert 0.1 < float(match[2]) < 1e5
        assert float(match[3]) == pytest.approx(columns["train/loss"][int(match[1])], rel=1e-2)
        assert (match[4], match[5]) == ("1.99", "edge")


@pytest.mark.parametrize(
    ("words", "phases"),
    [
        (["schedule.kappa=0.5"], ["monotone", "monotone"]),
        (["schedule.kappa=2.5"], ["catapult", "catapult"]),
        (["schedule.kappa=2.5", "optimizer=momentum"], ["monotone", "monotone"]),
        (["schedule=constant", "schedule.rate=1e30", "model.activation=abs"], ["catapult", "diverged"]),
    ],
    ids=["monotone", "catapult", "momentum", "diverged"],
)
def test_the_phase_is_named(
    words: list[str], phases: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cadence = ["callbacks.progress.line_seconds=0", "callbacks.progress.every=7"]
    trained(tmp_path, NO_FIGURE, *cadence, *words)
    said = re.findall(r"phase (\w+)", capsys.readouterr().err)
    assert said == phases


def test_a_quiet_run_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path, NO_FIGURE, "callbacks.progress.line_seconds=600")
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudoterminals")
@pytest.mark.parametrize("columns", [0, 140], ids=["of unknown width", "140 wide"])
def test_a_terminal_has_a_bar_with_rate_loss_and_phase_that_ends_with_the_run(
    columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40 if columns else 0, columns, 0, 0))
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        losses = trained(tmp_path, NO_FIGURE, "callbacks.progress.every=1").columns["train/loss"]
        terminal.flush()
        shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    last = shown.rstrip().split("\r")[-1]
    assert re.search(r"100%.*\b8/8 .*step/s", last)
    assert re.search(r"loss=([\d.e-]+), η·λ=2\.50, phase=catapult", last)[1] == f"{losses[7]:.3g}"
    assert shown.endswith("\n")


def test_the_rate_is_that_of_the_steps_since_the_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(
        progress, "time", SimpleNamespace(monotonic=lambda: 0.5 * next(clock))
    )  # half a second between two looks
    trained(tmp_path, NO_FIGURE, "callbacks.progress.line_seconds=0.5", "callbacks.progress.every=4")
    assert re.findall(r"step (\d+) of 8: (\d+) steps/s", capsys.readouterr().err) == [("0", "2"), ("4", "8")]
