"""spectrum.png, by what its axes hold and not by its pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from eoc.analysis import draw_spectrum
from eoc.analysis.spectrum_figure import smoothed
from eoc.tracking.run_folder import SPECTRUM_FIGURE, read_spectrum, write_spectrum


def record(step: int, nodes: list[float]) -> dict[str, Any]:
    weights = np.full(len(nodes), 1 / len(nodes))
    layers = np.array([0.5, 0.25]) * max(nodes)
    trace = {"trace": 7.0, "trace_error": 0.5}
    return {"step": step, "layers": layers, **trace, "nodes": np.array(nodes), "weights": weights}


def test_records_of_different_lengths_are_filled_up(tmp_path: Path) -> None:
    write_spectrum(tmp_path, [record(0, [1.0, 4.0]), record(9, [-1.0, 0.0, 8.0])], ["layer_1", "layer_2"])
    spectrum = read_spectrum(tmp_path)
    np.testing.assert_array_equal(spectrum["step"], [0, 9])
    np.testing.assert_array_equal(spectrum["nodes"][0], [1, 4, 0])
    np.testing.assert_array_equal(spectrum["weights"][0], [0.5, 0.5, 0])
    assert [path.name for path in tmp_path.iterdir()] == ["spectrum.npz"]


@pytest.mark.parametrize("count", [1, 3, 9])
def test_every_panel_shows_its_numbers(count: int, tmp_path: Path, drawn: list[Figure]) -> None:
    records = [record(10 * t, [0.0, 0.1, 4.0 + t]) for t in range(count)]
    write_spectrum(tmp_path, records, ["layer_1", "layer_2"])
    assert draw_spectrum(tmp_path, dots_per_inch=20) == tmp_path / SPECTRUM_FIGURE
    density, layers, trace = drawn[0].axes[:3]
    assert len(density.lines) == count
    for line in density.lines:
        x, y = line.get_xdata(), line.get_ydata()
        assert y.sum() * (x[1] - x[0]) == pytest.approx(1, rel=1e-2)
    steps = [10 * t for t in range(count)]
    shown = {str(line.get_label()): line.get_xydata() for line in layers.lines}
    np.testing.assert_allclose(shown["all layers"], [(10 * t, 4.0 + t) for t in range(count)])
    np.testing.assert_allclose(shown["layer 2"], [(10 * t, (4.0 + t) / 4) for t in range(count)])
    np.testing.assert_allclose(trace.lines[0].get_xydata(), [(t, 7.0) for t in steps])


def test_smoothing_is_a_gaussian_of_the_given_width() -> None:
    density = smoothed(np.array([2.0, 2.5]), np.array([2.0, 100.0]), np.array([0.25, 0.75]), 0.5)
    height = 0.25 / (0.5 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(density, [height, height * np.exp(-0.5)])
