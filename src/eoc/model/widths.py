"""Width profiles: how wide each hidden layer is."""

from __future__ import annotations

import math

from eoc.errors import InvalidInput, integer, real

LARGEST_DEPTH = 10**4  # layers; far beyond what float32 gradients survive
LARGEST_WIDTH = 10**9  # units; beyond it even the sizes of tensors overflow


def hidden_widths(depth: int, width: int, growth: float) -> tuple[int, ...]:
    """Widths m_k = round(m·k^γ) of the hidden layers k = 1 … l−1.

    Args:
        depth: l, the number of linear layers, from 2 to `LARGEST_DEPTH` (l−1 of them end in an activation).
        width: m, the first hidden layer's width, in units (neurons), 1 to `LARGEST_WIDTH`.
        growth: γ ≥ 0; 0 is constant width, 2 is the profile of νP and of the companion paper arXiv:2501.14724.

    Returns:
        The l−1 hidden widths, first layer first.

    Raises:
        InvalidInput: if an argument is outside its range.
    """
    depth = integer("depth", depth, minimum=2)
    width = integer("width", width, minimum=1)
    growth = real("growth", growth, minimum=0.0)
    integer("depth", depth, maximum=LARGEST_DEPTH)
    integer("width", width, maximum=LARGEST_WIDTH)
    if growth * math.log(depth - 1) > math.log(LARGEST_WIDTH / width):
        rule = f"at depth={depth}, width={width} the last hidden layer would have over {LARGEST_WIDTH:,} units"
        raise InvalidInput("growth", growth, f"{rule}: choose a smaller growth")
    return tuple(round(width * k**growth) for k in range(1, depth))


def inverse_width_sum(widths: tuple[int, ...]) -> float:
    """Σ_k 1/m_k, the scale of seed-to-seed fluctuations (derived, see docs/theory.md).

    Constant width gives (l−1)/m, unbounded in depth; γ = 2 stays below π²/(6m).
    """
    return sum(1.0 / width for width in widths)
