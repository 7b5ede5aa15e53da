"""How far a network's features have moved from where they began."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from eoc.errors import InvalidInput


def relative_change(now: Float[Tensor, "*shape"], initial: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """‖h(t) − h(0)‖/‖h(0)‖ in Frobenius norm, float64; NaN if h(0) is zero (a readout that starts at 0): undefined.

    Args:
        now: h(t), of shape (examples, …), the units in any shape.
        initial: h(0), of the same shape.

    Source: derived, see docs/theory.md (Feature change).
    """
    moved = (now.double() - initial.double()).square().sum()
    start = initial.double().square().sum()
    return torch.where(start > 0, moved / start, torch.nan).sqrt()


def kernel_alignment(first: Float[Tensor, "examples ..."], second: Float[Tensor, "examples ..."]) -> Float[Tensor, ""]:
    """Linear CKA of two feature matrices: ⟨HKH, HK'H⟩/(‖HKH‖·‖HK'H‖), K = XXᵀ, H the centring matrix.

    Computed in float64 from the Gram matrices (examples × examples); 1 for the same features up to rotation and
    scale. NaN if a centred Gram matrix is zero.

    Args:
        first: X, one example a row; all that follows the examples (units, channels, positions) counts as units.
        second: X', of the same examples, with units of its own.

    Source: Kornblith et al. 2019, arXiv:1905.00414.
    """
    kernels = [_of_norm_1(_centred_gram(features)) for features in (first, second)]
    # At most 1 by Cauchy-Schwarz, but for the rounding of equal matrices.
    return (kernels[0] * kernels[1]).sum().clamp(max=1.0)


class FeatureChange:
    """Compares a network's preactivations on a fixed probe batch with their first values.

    Args:
        preactivations: the network's h_1, …, h_l on the probe batch, l ≥ 2, as a function of nothing; each of shape
            (examples, …), whatever follows the examples being units.
        activation: φ, applied to a copy of h_{l−1} to get the last hidden layer's features.

    Raises:
        InvalidInput: if there are fewer than two layers.
    """

    def __init__(self, preactivations: Callable[[], Sequence[Tensor]], activation: Callable[[Tensor], Tensor]) -> None:
        self._preactivations, self._activation = preactivations, activation
        with torch.no_grad():
            self._initial = [h.clone() for h in preactivations()]
            if len(self._initial) < 2:
                rule = "it must return h_1, …, h_l of at least two layers, the last one being the output"
                raise InvalidInput("preactivations", f"[{len(self._initial)} layers]", rule)
            self._kernel = self._last_hidden_kernel(self._initial)

    @torch.no_grad()
    def measure(self) -> tuple[Float[Tensor, " layers"], Float[Tensor, ""]]:
        """Return ‖h_k(t) − h_k(0)‖/‖h_k(0)‖ for k = 1 … l, and 1 − CKA of the last hidden layer with its start.

        1 − CKA is taken as ½‖K(t)/‖K(t)‖ − K(0)/‖K(0)‖‖², where nothing cancels: 0 at the start, never below.
        """
        now = self._preactivations()
        change = torch.stack([relative_change(h, h0) for h, h0 in zip(now, self._initial, strict=True)])
        return change, (self._last_hidden_kernel(now) - self._kernel).square().sum() / 2

    def state_dict(self) -> dict[str, Any]:
        """Return the first preactivations."""
        return {"initial": self._initial}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._initial = [
            tensor.to(present.device) for tensor, present in zip(state["initial"], self._initial, strict=True)
        ]
        self._kernel = self._last_hidden_kernel(self._initial)

    def _last_hidden_kernel(self, preactivations: Sequence[Tensor]) -> Tensor:
        return _of_norm_1(_centred_gram(self._activation(preactivations[-2].clone())))  # φ may work in place


def _centred_gram(features: Tensor) -> Tensor:
    units = features.flatten(1)
    centred = units.double() - units.mean(dim=0, dtype=torch.float64, keepdim=True)
    return centred @ centred.T


def _of_norm_1(matrix: Tensor) -> Tensor:
    scaled = matrix / matrix.abs().max()  # whose squares neither overflow nor vanish
    return scaled / scaled.norm()
