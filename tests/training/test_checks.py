"""What a run will measure is known before it begins."""

from __future__ import annotations

import pytest

from eoc.training.build import build_callbacks
from eoc.training.checks import known_metrics
from support import NO_FIGURE, SMALL, composed, trained

EVERY = "callbacks.curvature.top_every=1"


@pytest.mark.parametrize(
    "overrides",
    [
        ["schedule=geometric", NO_FIGURE, EVERY],
        ["schedule=constant", "schedule.rate=0.5", NO_FIGURE, "~callbacks.curvature"],
        ["schedule=constant", "schedule.unit=absolute", "schedule.rate=0.1", "callbacks=none"],
    ],
)
def test_the_metrics_that_are_known_before_a_run_are_its_columns(tmp_path, overrides):
    run = trained(tmp_path / "run", *overrides)
    callbacks = build_callbacks(composed(tmp_path / "again", *SMALL, *overrides))
    assert known_metrics(run.module, callbacks) == set(run.columns) - {"step"}
