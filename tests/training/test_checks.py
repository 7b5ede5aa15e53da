"""What a run will measure is known before it begins."""

from __future__ import annotations

import pytest
from support import NO_FIGURE, composed, trained

from eoc.training.build import build_callbacks
from eoc.training.checks import known_metrics


@pytest.mark.parametrize(
    "overrides",
    [
        ["schedule=geometric"],
        ["schedule=constant", "schedule.rate=0.5", "~callbacks.curvature"],
        ["schedule=constant", "schedule.unit=absolute", "schedule.rate=0.1", "callbacks=none", "logger=csv"],
    ],
)
def test_the_metrics_that_are_known_before_a_run_are_its_columns(tmp_path, overrides):
    arguments = [*overrides, *([] if "callbacks=none" in overrides else [NO_FIGURE, "callbacks.curvature.top_every=1"])]
    arguments = [each for each in arguments if "~callbacks.curvature" not in arguments or "top_every" not in each]
    run = trained(tmp_path / "run", *arguments)
    callbacks = build_callbacks(composed(tmp_path / "again", *arguments))
    assert known_metrics(run.module, callbacks) == set(run.columns) - {"step"}
