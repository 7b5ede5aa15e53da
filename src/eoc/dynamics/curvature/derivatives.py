"""First and second derivatives by PyTorch's graphs, taken so that they disturb nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from eoc.errors import InvalidInput

Parts = Sequence[Tensor | None]  # one tensor per parameter, None for zero

# What PyTorch says of an operation that can be differentiated once only.
_ONCE = ("derivative for", "double backward")


def scalar(loss: object) -> Tensor:
    """Return the loss, or complain that it is not a mean over the examples."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        given = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise InvalidInput("loss", given, "it must be a tensor with one entry, the mean over the examples of a chunk")
    return loss


def differentiated(value: Tensor, parameters: list[Tensor], cotangent: Tensor | None = None) -> Parts:
    """Return the derivative of ``value`` (contracted with ``cotangent``), differentiable once more."""
    if not value.requires_grad:
        return (None,) * len(parameters)
    return _grad(value, parameters, cotangent, create_graph=True, allow_unused=True)


def reaching(derivatives: Parts) -> Parts:
    """Return the derivatives, or complain that what was differentiated depends on no parameter at all."""
    if all(part is None for part in derivatives):
        rule = "nothing depends on them: take the very tensors that the model is evaluated with, gradients switched on"
        raise InvalidInput("parameters", f"{len(derivatives)} tensors", rule)
    return derivatives


def transposed(outputs: Parts, inputs: list[Tensor], cotangents: Sequence[Tensor], *, together: bool = False) -> Parts:
    """Return the derivative of <outputs, cotangents> with respect to ``inputs``; the graph is kept.

    ``together``: each cotangent is a stack of several, and so is each derivative.
    """
    pairs = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o is not None and o.requires_grad]
    if not pairs:
        return (None,) * len(inputs)
    values, weights = zip(*pairs, strict=True)
    return _grad(values, inputs, weights, retain_graph=True, allow_unused=True, is_grads_batched=together)


def exact_arithmetic(device: torch.device) -> AbstractContextManager[None]:
    """Switch off an autocast that surrounds the caller: what is computed inside has its tensors' own precision."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


@contextmanager
def undisturbed(module: nn.Module | None, device: torch.device) -> Iterator[None]:
    """Evaluate a module with the random state put back after, on copies of its buffers.

    Every evaluation starts from the same random state: a dropout mask is the same for all chunks and products.
    Buffers are exchanged and not written back, as graphs may hold them.
    """
    owners = [] if module is None else [m for m in module.modules() if any(b is not None for b in m._buffers.values())]
    originals = [dict(owner._buffers) for owner in owners]
    for owner in owners:
        owner._buffers.update({name: None if b is None else b.clone() for name, b in owner._buffers.items()})
    try:
        with random_state_kept(device):
            yield
    finally:
        for owner, buffers in zip(owners, originals, strict=True):
            owner._buffers.update(buffers)


def random_state_kept(device: torch.device) -> AbstractContextManager[None]:
    """Put the random state of the CPU, and of a GPU if it is one, back after."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [], device_type="cuda")


def _grad(*arguments: object, **options: object) -> Parts:
    grad: Callable[..., Parts] = torch.autograd.grad
    try:
        return grad(*arguments, **options)
    except RuntimeError as error:
        said = str(error).splitlines()[0].rstrip(".")
        if not any(sign in said for sign in _ONCE):
            raise
        rule = f"PyTorch has no second derivative of it ({said}); docs/curvature.md names what has none, and remedies"
        raise InvalidInput("loss", "this function", rule) from error
