"""Cosines of new and cumulative parameter updates, the paper's lens on feature learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from eoc.errors import InvalidInput


@dataclass(frozen=True)
class UpdateGeometry:
    """Inner products of one update, layer by layer; everything else about it follows from them.

    With Δ_t = θ_{t+1} − θ_t and U_t = θ_t − θ_0, the rows are float64 of shape (layers,):

    Args:
        update: ‖Δ_t‖² of each layer.
        distance: ‖U_t‖² of each layer.
        cumulative: ⟨Δ_t, U_t⟩ of each layer.
        previous: ⟨Δ_t, Δ_{t−1}⟩ of each layer; NaN where Δ_{t−1} is not known.
        previous_update: ‖Δ_{t−1}‖² of each layer; NaN where it is not known.
        metric: g_k of each layer; sums over layers use ⟨u, v⟩ = Σ_k ⟨u_k, v_k⟩/g_k.
    """

    update: Float[Tensor, " layers"]
    distance: Float[Tensor, " layers"]
    cumulative: Float[Tensor, " layers"]
    previous: Float[Tensor, " layers"]
    previous_update: Float[Tensor, " layers"]
    metric: Float[Tensor, " layers"]

    def over_all(self, products: Float[Tensor, " layers"]) -> Float[Tensor, ""]:
        """Σ_k products_k/g_k."""
        return (products / self.metric).sum()

    def cosines(self, kind: str) -> tuple[Float[Tensor, ""], Float[Tensor, " layers"]]:
        """Cosine over all layers (in the learning-rate metric) and of each layer; NaN where undefined (a zero vector).

        Args:
            kind: ``cumulative`` for cos(Δ_t, U_t), ``previous`` for cos(Δ_t, Δ_{t−1}).

        Source: the paper (the cosine); its metric over layers is derived, see docs/theory.md.
        """
        inner, other = {
            "cumulative": (self.cumulative, self.distance),
            "previous": (self.previous, self.previous_update),
        }[kind]
        over_all = _cosine(self.over_all(inner), self.over_all(self.update), self.over_all(other))
        return over_all, _cosine(inner, self.update, other)


class UpdateCosines:
    """Follows a set of parameters and measures each update against where it came from.

    Call `before_step` ahead of the optimizer's step and `after_step` behind it. The true difference of the stored
    weights is measured, whatever the optimizer. Differences and inner products are taken in float64, where those of
    float32 weights are exact and cannot underflow; nothing waits for the device.

    Args:
        parameters: the layers' weights θ, one tensor a layer; their present values become θ_0.
        metric: g_k > 0 of each layer, in the same order.

    Raises:
        InvalidInput: if there is not one metric factor for each parameter.
    """

    def __init__(self, parameters: Sequence[Tensor], metric: Sequence[float]) -> None:
        if len(parameters) != len(metric):
            raise InvalidInput("metric", list(metric), f"it must have one factor for each of {len(parameters)} layers")
        self.parameters = list(parameters)
        device = self.parameters[0].device
        self._metric = torch.tensor(list(metric), dtype=torch.float64, device=device)
        self._initial = [parameter.detach().clone() for parameter in self.parameters]
        self._before: list[Tensor] | None = None
        self._previous: list[Tensor] | None = None
        self._armed = False

    def before_step(self) -> None:
        """Remember θ_t."""
        if self._before is None:
            self._before = [parameter.detach().clone() for parameter in self.parameters]
        else:
            torch._foreach_copy_(self._before, [parameter.detach() for parameter in self.parameters])
        self._armed = True

    @torch.no_grad()
    def after_step(self) -> UpdateGeometry:
        """Measure the update from the remembered θ_t to the present θ_{t+1}.

        Raises:
            RuntimeError: if `before_step` was not called since the last measurement.
        """
        if self._before is None or not self._armed:
            raise RuntimeError("UpdateCosines.after_step needs a call of before_step ahead of the optimizer's step")
        self._armed = False
        updates = _difference(self.parameters, self._before)
        distances = _difference(self._before, self._initial)
        update = _inner(updates, updates)
        unknown = torch.full_like(update, torch.nan)
        previous = self._previous
        geometry = UpdateGeometry(
            update=update,
            distance=_inner(distances, distances),
            cumulative=_inner(updates, distances),
            previous=unknown if previous is None else _inner(updates, previous),
            previous_update=unknown if previous is None else _inner(previous, previous),
            metric=self._metric,
        )
        self._previous = updates
        return geometry

    @torch.no_grad()
    def distance(self) -> tuple[Float[Tensor, ""], Float[Tensor, " layers"]]:
        """‖θ − θ_0‖ of the present weights, over all layers (in the learning-rate metric) and of each layer."""
        moved = _difference(self.parameters, self._initial)
        squares = _inner(moved, moved)
        return (squares / self._metric).sum().sqrt(), squares.sqrt()

    def forget_previous(self) -> None:
        """Drop Δ_{t−1}, which is not the last update any more when a step was not followed."""
        self._previous = None

    def state_dict(self) -> dict[str, Any]:
        """Return θ_0 and Δ_{t−1}, to continue with the same values after a restart."""
        return {"initial": self._initial, "previous": self._previous}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        devices = [parameter.device for parameter in self.parameters]
        self._initial = [tensor.to(device) for tensor, device in zip(state["initial"], devices, strict=True)]
        previous = state["previous"]
        self._previous = previous and [tensor.to(device) for tensor, device in zip(previous, devices, strict=True)]
        self._before, self._armed = None, False


def _difference(now: Sequence[Tensor], then: Sequence[Tensor]) -> list[Tensor]:
    """now_k − then_k in float64."""
    return [new.double() - old.double() for new, old in zip(now, then, strict=True)]


def _inner(first: Sequence[Tensor], second: Sequence[Tensor]) -> Float[Tensor, " layers"]:
    """⟨u_k, v_k⟩ of each layer."""
    return torch.stack([(u * v).sum() for u, v in zip(first, second, strict=True)])


def _cosine(inner: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """inner/√(first·second), NaN where a norm is zero or unknown."""
    return inner / (first * second).sqrt()
