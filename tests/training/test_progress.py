"""Where a run is, said in lines where there is no terminal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support import NO_FIGURE, trained

LINE = re.compile(r"step (\d+) of 8: loss ([\d.e+-]+)(?:, η·λ ([\d.]+))?, phase (\w+)")


def test_lines_say_step_loss_and_phase(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["callbacks.progress.line_seconds=0", "callbacks.progress.every=3", "schedule.kappa=1.99"]
    columns = trained(tmp_path / "edge", NO_FIGURE, *words).columns
    said = [LINE.fullmatch(line) for line in capsys.readouterr().err.splitlines()]
    assert [match and int(match[1]) for match in said] == [0, 3, 6]
    for match in filter(None, said):
        assert float(match[2]) == pytest.approx(columns["train/loss"][int(match[1])], rel=1e-2)
        assert (match[3], match[4]) == ("1.99", "edge")


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
