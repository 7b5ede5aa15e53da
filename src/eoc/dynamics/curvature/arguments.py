"""What the operators are given, checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from eoc.errors import InvalidInput, real

Batch = Sequence[Any]  # (inputs, targets): mostly tensors, but that is between the caller and the loss


def distinct(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return the parameters as a list; refuse none, what is no tensor, and one that is listed twice."""
    found = list(parameters)
    if not found:
        raise InvalidInput("parameters", [], "there must be at least one parameter tensor")
    for p in found:
        if not isinstance(p, Tensor):
            raise InvalidInput("parameters", type(p).__name__, "they must be tensors, as of module.parameters()")
    if len({id(p) for p in found}) < len(found):
        raise InvalidInput("parameters", f"{len(found)} tensors", "one of them is listed twice, and would count twice")
    return found


def checked_parameters(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return the parameters as a list; refuse what `distinct` does, frozen ones, and several or odd dtypes, devices."""
    checked = distinct(parameters)
    kinds = {(p.dtype, p.device) for p in checked}
    if len(kinds) > 1:
        raise InvalidInput("parameters", kinds, "all of them must share one dtype and one device")
    if checked[0].dtype not in (torch.float32, torch.float64):
        raise InvalidInput("parameters", checked[0].dtype, "they must be of dtype float32 or float64")
    if not all(p.requires_grad for p in checked):
        raise InvalidInput("parameters", "frozen", "every one of them must require gradients")
    if not all(p.is_leaf for p in checked):
        rule = "every one of them must be a leaf, as module.parameters() gives them, not computed from other tensors"
        raise InvalidInput("parameters", "computed", rule)
    return checked


def checked_batches(batches: Iterable[Batch]) -> tuple[Iterable[Batch], list[int]]:
    """Return the batches, and how many examples each has; refuse what are no pairs, empty ones and none.

    Lists, tuples, single batches and what can be read only once are held; others are returned as they are.
    """
    held = list(batches) if isinstance(batches, (list, tuple, Iterator)) else batches
    lengths: list[int | None] = []
    for batch in _read(held):
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise InvalidInput("batches", type(batch).__name__, "each batch must be a pair of inputs and targets")
        inputs = batch[0]
        lengths.append(len(inputs) if isinstance(inputs, Tensor) and inputs.ndim else None)
    if len(lengths) == 1:
        held, lengths = list(held), [1] if lengths[0] is None else lengths
    counts = [length for length in lengths if length is not None]
    if len(counts) < len(lengths):
        rule = (
            "where there are several batches, inputs must be a tensor whose first dimension counts the examples; "
            "what else the loss needs may come with the targets"
        )
        raise InvalidInput("batches", f"{len(lengths)} batches", rule)
    if not counts or min(counts) < 1:
        raise InvalidInput("batches", counts, "there must be at least one batch, each with at least one example")
    return held, counts


def _read(batches: Iterable[Batch]) -> Iterator[Batch]:
    with torch.random.fork_rng([]):  # a loader may shuffle
        yield from batches


def checked_vectors(vectors: Tensor, size: int) -> Tensor:
    """Return the vectors, or complain of their shape."""
    if vectors.ndim != 2 or vectors.shape[1] != size:
        raise InvalidInput("vectors", tuple(vectors.shape), f"their shape must be (number, {size})")
    return vectors


def square_roots(metric: Iterable[float | Tensor], parameters: list[Tensor]) -> list[float | Tensor]:
    """Return the roots of the learning-rate factors; refuse what is not positive, or not one for each parameter."""
    one = isinstance(metric, (int, float)) or (isinstance(metric, Tensor) and not metric.ndim)
    factors: Sequence[float | Tensor] = [] if one else list(metric)
    if len(factors) != len(parameters):
        raise InvalidInput("metric", metric, f"it needs one entry for each of the {len(parameters)} parameters")
    roots: list[float | Tensor] = []
    for factor, parameter in zip(factors, parameters, strict=True):
        if isinstance(factor, Tensor):
            root = factor.detach().double().sqrt().to(parameter)
            if not bool((torch.isfinite(root) & (root > 0)).all()):
                raise InvalidInput("metric", "tensor", "all of its entries must be positive and finite")
            try:
                roots.append(root.expand_as(parameter))
            except RuntimeError as error:
                rule = f"it must broadcast to its parameter's shape {tuple(parameter.shape)}"
                raise InvalidInput("metric", tuple(factor.shape), rule) from error
        else:
            roots.append(math.sqrt(real("metric", factor, above=0)))
    return roots
