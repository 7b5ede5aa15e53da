"""The scaling rules as one table of data: a row for each parameterization.

A layer computes h = c·A·x with entries of A drawn from N(0, 1), and gradient descent moves A with rate η·g.
A row says how c (``forward``) and g (``rate``) of a layer depend on its role and on fan sizes; it knows of no
particular network, so that any architecture with input, hidden and readout layers can use it.

A convolution with windows k×k has fan_in = in_channels·k², the terms of a sum, and fan_out = out_channels: by torch's
out_channels·k² mup's hidden K_k (docs/theory.md) would be k² times as large, above the readout's. m_L counts what the
readout reads: channels of pooled maps, channels·positions of flattened ones. Measured (ReLU, 3×3, 3 to 8 layers, one
image of 8×8: digits, noise): E h² stays where windows wrap around; zero padding leaves a third to two thirds after 7
layers. Flattened, nup's K_k are equal within a factor of 1.5, while mup's readout has as many times the others' as
there are positions. Pooled, K_k rises with k, 7- to 27-fold: pooling averages out what differs between positions. Not
covered: biases, norms, embeddings (a one-hot x has ‖x‖² = 1, not fan_in).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch

from eoc.errors import InvalidInput, choice, integer, real

INPUT, HIDDEN, READOUT = ROLES = ("input", "hidden", "readout")


@dataclass(frozen=True)
class Sizes:
    """What a scaling rule may depend on, for one layer of a network.

    Args:
        gain: σ, the activation's Edge-of-Chaos gain; 1 for the input layer, which no activation precedes.
        fan_in: inputs of this layer, m_{k−1}.
        fan_out: outputs of this layer, m_k.
        readout_fan_in: m_L, width of the last hidden layer.
        hidden_layers: l−1, the number of layers that end in an activation.
        depth: l, the number of linear layers.

    Raises:
        InvalidInput: if the gain is not a number above 0, or one of the others not an integer of at least 1.
    """

    gain: float
    fan_in: int
    fan_out: int
    readout_fan_in: int
    hidden_layers: int
    depth: int

    def __post_init__(self) -> None:
        real("gain", self.gain, above=0.0)
        for name in ("fan_in", "fan_out", "readout_fan_in", "hidden_layers", "depth"):
            integer(name, getattr(self, name), minimum=1)


@dataclass(frozen=True)
class Monomial:
    """A product of powers of `Sizes`; each field is the exponent of the size of the same name."""

    gain: float = 0.0
    fan_in: float = 0.0
    fan_out: float = 0.0
    readout_fan_in: float = 0.0
    hidden_layers: float = 0.0
    depth: float = 0.0

    def __call__(self, sizes: Sizes) -> float:
        """Evaluate Π_i sizes_i^{exponent_i}."""
        value = 1.0
        for field in fields(self):
            value *= float(getattr(sizes, field.name)) ** getattr(self, field.name)
        return value


@dataclass(frozen=True)
class Parameterization:
    """One row of the table.

    Args:
        forward: c for each role.
        rate: g for each role; the layer's learning rate is η·g.
        growth: γ of the width profile m_k = round(m·k^γ) that the row is defined with (a config may choose another).
        source: where the row comes from.
    """

    forward: Mapping[str, Monomial]
    rate: Mapping[str, Monomial]
    growth: float
    source: str


_INVERSE_ROOT = Monomial(gain=1, fan_in=-0.5)
_EDGE_OF_CHAOS = {INPUT: _INVERSE_ROOT, HIDDEN: _INVERSE_ROOT, READOUT: _INVERSE_ROOT}
_MEAN_FIELD = {INPUT: _INVERSE_ROOT, HIDDEN: _INVERSE_ROOT, READOUT: Monomial(gain=1, fan_in=-1)}


def _same(rule: Monomial) -> dict[str, Monomial]:
    return dict.fromkeys(ROLES, rule)


PARAMETERIZATIONS: dict[str, Parameterization] = {
    "nup": Parameterization(
        forward=_MEAN_FIELD,
        rate=_same(Monomial(readout_fan_in=1, hidden_layers=-1)),
        growth=2.0,
        source="Terjék, arXiv:2502.13110 (widths grow with depth); formulas derived, see docs/theory.md",
    ),
    "mup": Parameterization(
        forward=_MEAN_FIELD,
        rate={INPUT: Monomial(fan_out=1), HIDDEN: Monomial(fan_out=1), READOUT: Monomial(fan_in=1)},
        growth=0.0,
        source="Yang & Hu, arXiv:2011.14522",
    ),
    "mup_inverse_depth": Parameterization(
        forward=_MEAN_FIELD,
        rate={
            INPUT: Monomial(fan_out=1, depth=-1),
            HIDDEN: Monomial(fan_out=1, depth=-1),
            READOUT: Monomial(fan_in=1, depth=-1),
        },
        growth=0.0,
        source="mup with its rates divided by depth, the usual fix",
    ),
    "ntp": Parameterization(
        forward=_EDGE_OF_CHAOS,
        rate=_same(Monomial()),
        growth=0.0,
        source="Jacot, Gabriel & Hongler, arXiv:1806.07572",
    ),
    "sp": Parameterization(
        forward=_EDGE_OF_CHAOS,
        rate=_same(Monomial(gain=-2, fan_in=1)),
        growth=0.0,
        source="one learning rate on the effective weights c·A, that is g = 1/c²",
    ),
}


@dataclass(frozen=True)
class Scaling:
    """The two factors of a layer: ``forward`` is c in h = c·A·x, ``rate`` is g in the learning rate η·g."""

    forward: float
    rate: float


def scaling(parameterization: str, role: str, sizes: Sizes, richness: float = 1.0) -> Scaling:
    """Look up c and g of one layer.

    Richness ρ divides the readout's c by ρ and multiplies every g by ρ²: each layer's share of the output's
    change stays, and with the squared loss the Gauss-Newton part of λ_0, hence about the largest stable η; all
    preactivation changes are multiplied by ρ.

    Args:
        parameterization: a key of `PARAMETERIZATIONS`.
        role: ``input``, ``hidden`` or ``readout``.
        sizes: the layer's and the network's sizes.
        richness: ρ > 0; 1 is the row as it stands, ρ → 0 the kernel regime.

    Raises:
        InvalidInput: for an unknown name or role, or a richness that is not positive or with which g leaves float32.

    Source: docs/theory.md (the table; richness is derived there).
    """
    row = PARAMETERIZATIONS[choice("parameterization", parameterization, PARAMETERIZATIONS)]
    choice("role", role, ROLES)
    richness = real("richness", richness, above=0.0)
    rate = row.rate[role](sizes) * (richness * richness)  # infinite where a power would raise
    float32 = torch.finfo(torch.float32)
    if not float32.tiny <= rate <= float32.max:
        rule = f"the learning rates' factor would be {rate:.2g}, which float32 does not hold; choose one nearer to 1"
        raise InvalidInput("richness", richness, rule)
    forward = row.forward[role](sizes) / (richness if role == READOUT else 1.0)
    return Scaling(forward, rate)
