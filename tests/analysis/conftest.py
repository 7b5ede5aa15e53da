"""What the tests of figures share."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.figure import Figure

import eoc.analysis.spectrum_figure as spectrum_room
import eoc.analysis.summary_figure as summary_room


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is made during the test."""
    made: list[Figure] = []

    class Kept(Figure):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    for room in (spectrum_room, summary_room):
        monkeypatch.setattr(room, "Figure", Kept)
    return made
