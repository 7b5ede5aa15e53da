"""What the operators are given, checked."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from eoc.errors import InvalidInput, real

Batch = tuple[Tensor, Tensor]


def checked_parameters(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return the parameters as a list; refuse none, frozen ones, and several or odd dtypes or devices."""
    checked = list(parameters)
    if not checked:
        raise InvalidInput("parameters", [], "there must be at least one parameter tensor")
    kinds = {(p.dtype, p.device) for p in checked}
    if len(kinds) > 1:
        raise InvalidInput("parameters", kinds, "all of them must share one dtype and one device")
    if checked[0].dtype not in (torch.float32, torch.float64):
        raise InvalidInput("parameters", checked[0].dtype, "they must be of dtype float32 or float64")
    if not all(p.requires_grad for p in checked):
        raise InvalidInput("parameters", "frozen", "every one of them must require gradients")
    return checked


def checked_batches(batches: Sequence[Batch]) -> tuple[list[Batch], list[float]]:
    """Return the batches, and which share of all examples each has; refuse empty ones."""
    checked = list(batches)
    lengths = [len(inputs) for inputs, _ in checked]
    if not lengths or min(lengths) < 1:
        raise InvalidInput("batches", lengths, "there must be at least one batch, each with at least one example")
    return checked, [length / sum(lengths) for length in lengths]


def square_roots(metric: Sequence[float | Tensor], parameters: list[Tensor]) -> list[float | Tensor]:
    """Return the roots of the learning-rate factors; refuse what is not positive, or not one for each parameter."""
    if len(metric) != len(parameters):
        raise InvalidInput("metric", metric, f"it needs one entry for each of the {len(parameters)} parameters")
    roots: list[float | Tensor] = []
    for factor, parameter in zip(metric, parameters, strict=True):
        if isinstance(factor, Tensor):
            if not bool((torch.isfinite(factor) & (factor > 0)).all()):
                raise InvalidInput("metric", "tensor", "all of its entries must be positive and finite")
            roots.append(factor.detach().to(parameter).sqrt().expand_as(parameter))
        else:
            roots.append(math.sqrt(real("metric", factor, above=0)))
    return roots
