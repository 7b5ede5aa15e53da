"""Cosines of new and cumulative parameter updates, the paper's lens on feature learning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from eoc.errors import InvalidInput, choice, real

TINY = torch.finfo(torch.float64).tiny  # below it float64 has fewer digits


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

        Raises:
            InvalidInput: for another kind.

        Source: the paper (the cosine); its metric over layers is derived, see docs/theory.md.
        """
        kinds = dict(zip(("cumulative", "previous"), self.table, strict=False))
        row = kinds[choice("kind", kind, kinds)]
        return row[0], row[1:]

    @cached_property
    def table(self) -> Float[Tensor, "4 all_and_layers"]:
        """The cumulative cosines, the previous ones, ‖Δ_t‖ and ‖U_t‖: over all layers, then of each; NaN as above."""
        inner = [self.cumulative, self.previous, self.update, self.distance, self.previous_update]
        layers = torch.stack(inner)  # of all at once: few operations
        whole = torch.cat([(layers / self.metric).sum(dim=1, keepdim=True), layers], dim=1)
        lengths = whole[2:].sqrt()
        others = whole[3:]
        known = torch.minimum(whole[2], others) >= TINY
        # The roots apart, for the product of two squares may leave float64.
        cosines = torch.where(known, whole[:2] / (lengths[0] * lengths[1:]), torch.nan)
        return torch.cat([cosines, lengths[:2]])


class UpdateCosines:
    """Follows a set of parameters and measures each update against where it came from.

    Call `before_step` ahead of the optimizer's step and `after_step` behind it. The true difference of the stored
    weights is measured, whatever the optimizer. Differences and inner products are taken in float64, where those of
    float32 weights are exact and cannot underflow; nothing waits for the device.

    Two copies of the weights are kept, θ_0 and θ_{t−1}. During the step there is θ_t too, of all layers or, where an
    optimizer takes one layer after the other between `before_layer` and `after_layer`, of that layer alone.

    Args:
        parameters: the layers' weights θ, one tensor a layer; their present values become θ_0.
        metric: g_k of each layer, a finite number above 0, in the same order.

    Raises:
        InvalidInput: if there are no parameters, or not one metric factor above 0 for each.
    """

    def __init__(self, parameters: Iterable[Tensor], metric: Iterable[float]) -> None:
        self.parameters = list(parameters)
        if not self.parameters:
            raise InvalidInput("parameters", [], "there must be at least one parameter tensor")
        factors = [g.item() if isinstance(g, Tensor) and g.numel() == 1 else g for g in metric]
        if len(factors) != len(self.parameters):
            raise InvalidInput("metric", factors, f"it must have one factor for each of {len(self.parameters)} layers")
        factors = [real("metric", factor, above=0.0) for factor in factors]
        self._metric = torch.tensor(factors, dtype=torch.float64, device=self.parameters[0].device)
        self._initial = [parameter.detach().clone() for parameter in self.parameters]
        self._last: dict[int, Tensor] = {}  # θ_{t−1} by layer, where it is known
        self._before: dict[int, Tensor] = {}  # θ_t by layer, while the step is taken
        self._products: dict[int, Tensor] = {}  # by layer: the rows of `UpdateGeometry`

    def before_step(self) -> None:
        """Remember θ_t."""
        for layer in range(len(self.parameters)):
            self.before_layer(layer)

    def before_layer(self, layer: int) -> None:
        """Remember θ_t of one layer.

        Args:
            layer: its index, from 0.
        """
        self._before[layer] = self.parameters[layer].detach().clone()

    @torch.no_grad()
    def after_layer(self, layer: int) -> None:
        """Measure one layer's update, from what `before_layer` remembered to the present θ_{t+1}.

        Args:
            layer: its index, from 0.
        """
        before = self._before.pop(layer)
        now, last = self.parameters[layer].detach(), self._last.get(layer)
        self._products[layer] = _products(now, before, self._initial[layer], last)
        self._last[layer] = before

    def after_step(self) -> UpdateGeometry:
        """Return the geometry of the update, measuring what `after_layer` has not.

        Raises:
            RuntimeError: if `before_step` was not called since the last measurement.
        """
        for layer in list(self._before):
            self.after_layer(layer)
        if len(self._products) < len(self.parameters):
            raise RuntimeError("UpdateCosines.after_step needs a call of before_step ahead of the optimizer's step")
        update, distance, cumulative, previous, previous_update = torch.stack(
            [self._products[layer] for layer in range(len(self.parameters))], dim=1
        )
        self._products = {}
        return UpdateGeometry(update, distance, cumulative, previous, previous_update, self._metric)

    @torch.no_grad()
    def distance(self) -> tuple[Float[Tensor, ""], Float[Tensor, " layers"]]:
        """‖θ − θ_0‖ of the present weights, over all layers (in the learning-rate metric) and of each layer."""
        pairs = zip(self.parameters, self._initial, strict=True)
        squares = torch.stack([_products(now.detach(), initial, initial, None)[0] for now, initial in pairs])
        return (squares / self._metric).sum().sqrt(), squares.sqrt()

    def forget_previous(self) -> None:
        """Drop θ_{t−1}, which does not begin the last update any more when a step was not followed."""
        self._last = {}

    def state_dict(self) -> dict[str, Any]:
        """Return θ_0 and θ_{t−1} (None where it is not known), to continue with the same values after a restart."""
        return {"initial": self._initial, "last": [self._last.get(layer) for layer in range(len(self.parameters))]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned.

        Raises:
            InvalidInput: if it lacks something, or is of tensors of other shapes.
        """
        lacking = {"initial", "last"} - state.keys()
        if lacking:
            raise InvalidInput("state", sorted(state), f"it lacks {', '.join(sorted(lacking))}")
        initial, last = state["initial"], state["last"] or [None] * len(self.parameters)  # older ones: empty for none
        for tensors in (initial, last):
            _expect_shapes(tensors, self.parameters)
        device = self.parameters[0].device
        self._initial = [tensor.to(device) for tensor in initial]
        self._last = {layer: tensor.to(device) for layer, tensor in enumerate(last) if tensor is not None}
        self._before, self._products = {}, {}


def _expect_shapes(tensors: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> None:
    here = [tuple(tensor.shape) for tensor in parameters]
    there = [None if tensor is None else tuple(tensor.shape) for tensor in tensors]
    if len(there) != len(here) or any(found not in (None, shape) for found, shape in zip(there, here, strict=True)):
        raise InvalidInput("state", there, f"its tensors must have the shapes of the layers, {here}")


# Entries that are measured at once: what float64 needs of them stays in a core's cache, or is little beside a layer.
_CPU_CHUNK, _GPU_CHUNK = 1 << 14, 1 << 22


def _products(now: Tensor, before: Tensor, initial: Tensor, last: Tensor | None) -> Float[Tensor, " 5"]:
    """‖Δ_t‖², ‖U_t‖², ⟨Δ_t, U_t⟩, ⟨Δ_t, Δ_{t−1}⟩, ‖Δ_{t−1}‖² of one layer in float64; NaN for what is not known."""
    known = [now, initial] if last is None else [now, initial, last]
    size = min(_GPU_CHUNK if now.is_cuda else _CPU_CHUNK, now.numel())
    rows = torch.empty(1 + len(known), size, dtype=torch.float64, device=now.device)
    inner = rows.new_zeros(len(known), len(known))  # of Δ_t, U_t and Δ_{t−1}
    views = _views(rows)  # once: to make them takes as long as to use them
    for start, *others in zip(*(tensor.reshape(-1).split(size) for tensor in (before, *known)), strict=True):
        if len(start) < size:
            views = _views(rows[:, : len(start)])
        there, vectors, update, behind, left, right = views
        there.copy_(start)
        for vector, other in zip(vectors, others, strict=True):
            vector.copy_(other)
        update.sub_(there)
        torch.sub(there, behind, out=behind)
        inner.addmm_(left, right)
    found = [inner[0, 0], inner[1, 1], inner[0, 1]]
    unknown = inner.new_full((), torch.nan)
    return torch.stack([*found, *([unknown, unknown] if last is None else [inner[0, 2], inner[2, 2]])])


def _views(rows: Tensor) -> tuple[Tensor, tuple[Tensor, ...], Tensor, Tensor, Tensor, Tensor]:
    return rows[0], rows[1:].unbind(), rows[1], rows[2:], rows[1:], rows[1:].T
