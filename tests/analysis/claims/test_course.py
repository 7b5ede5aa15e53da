"""The course of cosines and features: closed forms of what is drawn, and its means over runs and steps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from eoc.analysis.claims import cosines
from eoc.analysis.claims.course import ALONG, BINS, LAYER, WHOLE, course, share_along

STEPS = 300


def run(updates: np.ndarray) -> dict[str, np.ndarray]:
    """The logged columns of a run with these updates, (steps, parameters); nothing is updated in the last row."""
    sums = np.concatenate([np.zeros((1, updates.shape[1])), np.cumsum(updates, 0)])
    lengths = np.linalg.norm(updates, axis=1)
    distance = np.linalg.norm(sums, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = (updates * sums[:-1]).sum(1) / lengths / distance[:-1]
    return {
        "step": np.arange(len(updates) + 1.0),
        "update_norm/all": np.append(lengths, np.nan),
        "distance/all": distance,
        WHOLE: np.append(cosine, np.nan),
    }


def test_the_share_of_updates_that_go_on_is_known_for_straight_turning_and_returning_paths():
    steps = np.arange(1.0, STEPS + 1)
    straight = share_along(run(np.ones((STEPS, 3))))
    assert straight[1:] == pytest.approx(1 - 1 / steps)
    assert np.isnan(straight[0])
    turning = share_along(run(np.eye(STEPS)))
    assert turning[1:] == pytest.approx(np.zeros(STEPS), abs=1e-12)
    signs = np.where(np.arange(STEPS) % 2 == 0, 1.0, -1.0)
    bouncing = share_along(run(signs[:, None] * np.ones((STEPS, 1))))
    assert bouncing[1::2] == pytest.approx(1 - steps[::2])


def test_bins_average_over_their_steps_and_over_runs():
    straight, turning = run(np.ones((STEPS, STEPS))), run(np.eye(STEPS))
    layered = {**straight, **{f"{LAYER}{k}": np.full(STEPS + 1, 0.1 * k) for k in range(1, 7)}}
    runs = [("stable", "mup", 3, straight), ("stable", "mup", 3, turning), ("catapult", "nup", 6, layered)]
    found = course(iter(runs))
    cosine = found[(found["quantity"] == WHOLE) & (found["phase"] == "stable")]
    assert cosine["mean"].to_numpy() == pytest.approx(0.5)
    assert (cosine["low"].to_numpy(), cosine["high"].to_numpy()) == (pytest.approx(0.1), pytest.approx(0.9))
    share = found[(found["quantity"] == ALONG) & (found["phase"] == "catapult")].set_index("step")["mean"]
    for middle in (1.0, 2.0):  # where a bin is one step
        assert share[middle] == pytest.approx(1 - 1 / middle)
    width = int(STEPS + 1 - np.unique(np.geomspace(1, STEPS + 1, BINS).astype(int))[-2])
    inside = np.arange(STEPS + 1 - width, STEPS + 1)
    assert share.iloc[-1] == pytest.approx((1 - 1 / inside).mean())
    layers = found[found["quantity"].str.startswith(LAYER)]
    assert set(layers["phase"]) == {"catapult"}
    assert layers.groupby("quantity")["mean"].mean().to_numpy() == pytest.approx([0.1 * k for k in range(1, 7)])


def test_the_slowest_runs_are_a_phase_apart_and_each_phase_is_drawn(tmp_path):
    rows, cells = [], []
    for number, (rate, phase) in enumerate([(0.3, "stable"), (1.0, "stable"), (2.5, "catapult")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        pd.DataFrame(run(np.eye(STEPS))).astype({"step": int}).to_csv(folder / "metrics.csv", index=False)
        rows.append({"path": str(folder)})
        cells.append({"schedule.rate": rate, "phase": phase, "model": "nup", "model.depth": 3, "status": "completed"})
    cells.append({**cells[0], "status": "diverged"})
    rows.append({"path": str(tmp_path / "nowhere")})
    found = cosines.course_table(pd.DataFrame(rows), pd.DataFrame(cells))
    assert set(found["phase"]) == {cosines.SLOW, "stable", "catapult"}
    figure = cosines.course_figure(found)
    titles = [axis.get_title() for axis in figure.axes]
    assert [title for title in titles if title] == [cosines.SLOW, *cosines.PHASES]
    (line,) = figure.axes[0].get_lines()[:1]
    assert line.get_label() == "νP, γ = 2"
