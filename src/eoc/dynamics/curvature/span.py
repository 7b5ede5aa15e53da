"""The space that the examples span, in which all of the first layer's curvature lies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_WORTH = 0.9  # part of the input features up to which fewer coordinates pay
_RANKED = 1024  # features up to which the rank of many examples is found in about a second
_ROUNDINGS = 8  # of the largest singular value: what is smaller is rounding


@dataclass(frozen=True)
class InputSpan:
    """Inputs in r orthonormal coordinates of the space that they span.

    A first layer h = A x has gradients and Hessian products of the form Z Q^T, where the columns of Q are such
    coordinates: what A does to directions that no example has changes nothing. In the coordinates Z the Hessian has
    the same eigenvalues, but for zeros, in fewer dimensions: r is at most the number of examples, and smaller than
    that of the features where some are the same in all examples, as the margins of digits are.

    Attributes:
        basis: (r, features), orthonormal rows: Q^T.
        inputs: (examples, r), the inputs times Q.
    """

    basis: Float[Tensor, "r features"]
    inputs: Float[Tensor, "examples r"]


def input_span(inputs: Float[Tensor, "examples features"]) -> InputSpan | None:
    """Return the space that the inputs span, or None where it is hardly smaller than the whole, or dear to find.

    With up to 1,024 features its dimension is the rank of the inputs, where a singular value below eight roundings of
    the largest counts as zero; with more, the number of examples, if that is at most nine tenths of the features'.
    The basis depends on the space alone, to rounding, not on the order of the examples: vectors in these coordinates
    mean the same in a later process.

    Args:
        inputs: one example a row, finite.

    Returns:
        The basis and the inputs in it, of the inputs' dtype and device; None where the dimension exceeds nine tenths
        of the features.
    """
    examples, features = inputs.shape
    if features > _RANKED and examples > _WORTH * features:
        return None
    exact = inputs.detach().cpu().double()
    if features > _RANKED:
        basis = torch.linalg.qr(exact.T).Q.T
    else:
        _, values, axes = torch.linalg.svd(torch.linalg.qr(exact, mode="r").R, full_matrices=False)
        axes = axes[values > _ROUNDINGS * torch.finfo(inputs.dtype).eps * values[0]]
        # Close singular values have any axes in their plane: what is fixed, and does not turn with them, is the
        # projection of other vectors on the space.
        generator = torch.Generator("cpu").manual_seed(0)
        others = torch.randn(features, len(axes), generator=generator, dtype=torch.float64, device="cpu")
        basis = torch.linalg.qr(axes.T @ (axes @ others)).Q.T
    if not 0 < len(basis) <= _WORTH * features:
        return None
    return InputSpan(basis.to(inputs), (exact @ basis.T).to(inputs))
