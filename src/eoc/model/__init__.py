"""What is built: activation gains, width profiles, the parameterization table, the MLP. Plain torch."""

from eoc.model.activation import Activation, parse_activation
from eoc.model.loss import LOSSES, cross_entropy, half_squared_error
from eoc.model.mlp import MLP
from eoc.model.parameterization import PARAMETERIZATIONS, Monomial, Parameterization, Scaling, Sizes, scaling
from eoc.model.widths import hidden_widths, inverse_width_sum

__all__ = [
    "LOSSES",
    "MLP",
    "PARAMETERIZATIONS",
    "Activation",
    "Monomial",
    "Parameterization",
    "Scaling",
    "Sizes",
    "cross_entropy",
    "half_squared_error",
    "hidden_widths",
    "inverse_width_sum",
    "parse_activation",
    "scaling",
]
