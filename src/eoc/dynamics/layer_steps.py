"""What one step does to a network, layer by layer: the r_k and K_k of the scaling table, measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eoc.model import MLP


@dataclass(frozen=True)
class LayerSteps:
    """One step θ → θ + Δ, seen from each layer.

    Attributes:
        preactivations: r_k = ‖c_k·ΔA_k·x_{k−1}‖/‖h_k‖, how far layer k moves its own preactivations; NaN if h_k is 0.
        shares: RMS change of the outputs if layer k alone takes its step.
        output: RMS change of the outputs by the whole step.
    """

    preactivations: Float[Tensor, " layers"]
    shares: Float[Tensor, " layers"]
    output: Float[Tensor, ""]


@torch.no_grad()
def layer_steps(
    network: MLP, inputs: Float[Tensor, "examples inputs"], before: Sequence[Tensor], after: Sequence[Tensor]
) -> LayerSteps:
    """Compare ``before`` and ``after``, the weights at both ends of a step, on ``inputs``.

    All in float64: ΔA_k of a short step would drown in float32. RMS is over examples and outputs. The shares take l
    forward passes from layer k on, l²/2 layers in all.

    Source: derived, see docs/theory.md (r_k and K_k).
    """
    old, new = ([weight.detach().double() for weight in weights] for weights in (before, after))
    x = inputs.double()
    hidden = network.preactivations(x, old)
    sizes, shares = [], []
    for k, factor in enumerate(network.forward_factors):
        features = network.phi(hidden[k - 1]) if k else x
        moved = factor * features @ (new[k] - old[k]).T
        start = hidden[k].norm()
        sizes.append(torch.where(start > 0, moved.norm() / start, torch.nan))
        h = hidden[k] + moved
        for weight, following in zip(old[k + 1 :], network.forward_factors[k + 1 :], strict=True):
            h = following * network.phi(h) @ weight.T
        shares.append(_rms(h - hidden[-1]))
    return LayerSteps(torch.stack(sizes), torch.stack(shares), _rms(network.preactivations(x, new)[-1] - hidden[-1]))


def _rms(values: Tensor) -> Tensor:
    return values.square().mean().sqrt()
