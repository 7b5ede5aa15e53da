"""The edge of stability against the spectral radius of heavy ball's own recursion."""

from __future__ import annotations

import numpy as np
import pytest

from eoc.errors import InvalidInput
from eoc.schedule import phase, stability_limit


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9])
def test_the_limit_is_where_the_recursion_stops_contracting(momentum: float) -> None:
    def radius(product: float) -> float:
        step = np.array([[1 - product + momentum, -momentum], [1.0, 0.0]])
        return float(np.abs(np.linalg.eigvals(step)).max())

    limit = stability_limit(momentum)
    assert radius(0.999 * limit) < 1 < radius(1.001 * limit)


def test_the_limit_by_name() -> None:
    assert stability_limit() == 2.0
    assert stability_limit(0.9) == pytest.approx(3.8)


@pytest.mark.parametrize(
    ("product", "limit", "name"),
    [
        (-1.0, 2.0, "monotone"),
        (1.89, 2.0, "monotone"),
        (1.91, 2.0, "edge"),
        (2.09, 2.0, "edge"),
        (2.11, 2.0, "catapult"),
        (2.11, 3.8, "monotone"),
        (3.8, 3.8, "edge"),
        (4.1, 3.8, "catapult"),
    ],
)
def test_phases(product: float, limit: float, name: str) -> None:
    assert phase(product, limit) == name


@pytest.mark.parametrize("momentum", [-0.1, 1.0, float("nan")])
def test_a_momentum_that_is_refused(momentum: float) -> None:
    with pytest.raises(InvalidInput, match="momentum="):
        stability_limit(momentum)


def test_a_product_or_limit_that_is_refused() -> None:
    with pytest.raises(InvalidInput, match="rate_times_sharpness="):
        phase(float("nan"))
    with pytest.raises(InvalidInput, match="limit="):
        phase(1.0, 0.0)
