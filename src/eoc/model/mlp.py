"""The multilayer perceptron h_k = c_k·A_k·x_{k−1}, x_k = φ(h_k), without biases."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from eoc.errors import choice, integer
from eoc.model.activation import Activation, parse_activation
from eoc.model.parameterization import HIDDEN, INPUT, READOUT, Sizes, scaling
from eoc.model.widths import hidden_widths


class MLP(nn.Module):
    """An MLP of ``depth`` linear layers at the Edge of Chaos, in any parameterization of the table.

    Weights A_k (fan_out × fan_in) are drawn from N(0, 1) by a generator of their own, layer by layer on the CPU,
    so that a seed means the same network on every device. The learning rate of A_k is η·``rates[k]``.

    Args:
        inputs: m_0, the number of input features.
        outputs: the number of outputs (classes).
        parameterization: ``nup``, ``mup``, ``mup_inverse_depth``, ``ntp`` or ``sp``.
        depth: l ≥ 2, the number of linear layers.
        width: m ≥ 1, width of the first hidden layer.
        growth: γ ≥ 0; hidden layer k has round(m·k^γ) units.
        activation: see `eoc.model.parse_activation`.
        richness: ρ > 0, see `eoc.model.parameterization.scaling`.
        readout_init: ``normal``, or ``zero`` for a readout that starts at 0.
        seed: of the weights, 0 to 2³² − 1 (NumPy's range too).

    Raises:
        InvalidInput: if an argument is outside its range.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        parameterization: str,
        depth: int,
        width: int,
        growth: float,
        activation: str | Sequence[float] | Activation = "relu",
        richness: float = 1.0,
        readout_init: str = "normal",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.phi = parse_activation(activation)
        hidden = hidden_widths(depth, width, growth)
        self.readout_init = choice("readout_init", readout_init, ("normal", "zero"))
        self.widths = (integer("inputs", inputs, minimum=1), *hidden, integer("outputs", outputs, minimum=1))
        generator = torch.Generator().manual_seed(integer("seed", seed, minimum=0, maximum=2**32 - 1))

        roles = (INPUT, *[HIDDEN] * (depth - 2), READOUT)
        factors = []
        weights = []
        for role, (fan_in, fan_out) in zip(roles, pairwise(self.widths), strict=True):
            gain = 1.0 if role == INPUT else self.phi.gain
            sizes = Sizes(gain, fan_in, fan_out, readout_fan_in=hidden[-1], hidden_layers=depth - 1, depth=depth)
            factors.append(scaling(parameterization, role, sizes, richness))
            zero = role == READOUT and readout_init == "zero"
            shape = (fan_out, fan_in)
            weights.append(torch.zeros(shape) if zero else torch.randn(shape, generator=generator))
        self.weights = nn.ParameterList(weights)
        self.forward_factors = tuple(factor.forward for factor in factors)
        self.rates = tuple(factor.rate for factor in factors)

    @property
    def depth(self) -> int:
        """The number l of linear layers."""
        return len(self.rates)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """``layer_1`` … ``layer_l``, the names under which layers are logged."""
        return tuple(f"layer_{k}" for k in range(1, self.depth + 1))

    def forward(self, inputs: Float[Tensor, "examples inputs"]) -> Float[Tensor, "examples outputs"]:
        """Compute f(x) = h_l."""
        return self.preactivations(inputs)[-1]

    def preactivations(
        self, inputs: Float[Tensor, "examples inputs"], weights: Sequence[Tensor] | None = None
    ) -> list[Float[Tensor, "examples _"]]:
        """Return h_1, …, h_l, each of shape (examples, m_k); the last one is the output.

        Args:
            inputs: one example a row.
            weights: A_1, …, A_l to use in place of the network's own.
        """
        result: list[Tensor] = []
        for weight, factor in zip(self.weights if weights is None else weights, self.forward_factors, strict=True):
            features = self.phi(result[-1]) if result else inputs
            result.append(F.linear(features, weight) * factor)
        return result
