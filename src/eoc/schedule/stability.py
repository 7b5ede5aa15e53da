"""Where gradient descent stands between stable descent and the catapult."""

from __future__ import annotations

from eoc.errors import real

EDGE_BAND = 0.05


def stability_limit(momentum: float = 0.0) -> float:
    """Return η·λ at the edge of stability: 2(1+β).

    On a quadratic of curvature λ, θ_{t+1} = θ_t − ηλθ_t + β(θ_t − θ_{t−1}) is bounded exactly up to there.

    Args:
        momentum: β of heavy ball, in [0, 1); 0 is gradient descent.

    Returns:
        The limit of η·λ, a pure number.

    Raises:
        InvalidInput: if β is not in [0, 1).

    Source: Cohen et al. 2021, arXiv:2103.00065 (section 2).
    """
    return 2 * (1 + real("momentum", momentum, minimum=0.0, below=1.0))


def phase(rate_times_sharpness: float, limit: float = 2.0) -> str:
    """Return the phase by name: ``monotone``, ``edge`` (within 5 % of the limit) or ``catapult`` (above).

    Args:
        rate_times_sharpness: η·λ, a pure number.
        limit: η·λ at the edge, see `stability_limit`; above 0.

    Raises:
        InvalidInput: if one of them is not a finite number, or the limit is not above 0.

    Source: Lewkowycz et al. 2020, arXiv:2003.02218 (phases); the 5 % band is a convention of this project.
    """
    ratio = real("rate_times_sharpness", rate_times_sharpness) / real("limit", limit, above=0.0)
    if ratio < 1 - EDGE_BAND:
        return "monotone"
    return "edge" if ratio <= 1 + EDGE_BAND else "catapult"
