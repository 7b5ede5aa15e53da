from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

import pytest

from eoc.errors import InvalidInput
from eoc.model import MLP, PARAMETERIZATIONS, Monomial, Parameterization, Scaling, Sizes, scaling
from eoc.model.parameterization import ROLES

NAMES = ("nup", "mup", "mup_inverse_depth", "ntp", "sp")
GAIN = {"relu": math.sqrt(2), "abs": 1.0}


def table(name: str, k: int, m: list[int], sigma: float) -> tuple[float, float]:
    """c_k and g_k of the table in docs/theory.md, written out a second time; m = [m_0, …, m_l]."""
    l, last = len(m) - 1, m[-2]
    sigma_k = 1.0 if k == 1 else sigma
    if name in ("sp", "ntp"):
        c = sigma_k / math.sqrt(m[k - 1])
        return c, 1 / c**2 if name == "sp" else 1.0
    c = sigma_k / last if k == l else sigma_k / math.sqrt(m[k - 1])
    if name == "nup":
        return c, last / (l - 1)
    g = last if k == l else m[k]
    return c, g / l if name == "mup_inverse_depth" else g


def test_the_five_rows():
    assert tuple(PARAMETERIZATIONS) == NAMES
    for row in PARAMETERIZATIONS.values():
        assert set(row.forward) == set(row.rate) == set(ROLES)
        assert row.source
    assert {name: row.growth for name, row in PARAMETERIZATIONS.items()} == {
        "nup": 2.0, "mup": 0.0, "mup_inverse_depth": 0.0, "ntp": 0.0, "sp": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("activation", ["relu", "abs"])
@pytest.mark.parametrize(("depth", "width", "growth"), [(2, 9, 2.0), (3, 5, 0.0), (4, 6, 1.0), (6, 4, 2.0)])
@pytest.mark.parametrize("richness", [1.0, 0.25, 3.0])
def test_every_entry(name, activation, depth, width, growth, richness):
    net = MLP(
        11, 3, parameterization=name, depth=depth, width=width, growth=growth, activation=activation, richness=richness
    )
    m = [11, *(round(width * k**growth) for k in range(1, depth)), 3]
    assert list(net.widths) == m
    for k in range(1, depth + 1):
        c, g = table(name, k, m, GAIN[activation])
        assert net.forward_factors[k - 1] == pytest.approx(c / (richness if k == depth else 1.0), rel=1e-14)
        assert net.rates[k - 1] == pytest.approx(g * richness**2, rel=1e-14)


def test_nup_at_constant_width_is_mup_inverse_depth_up_to_one_layer():
    nup, fix = (MLP(8, 4, parameterization=name, depth=7, width=5, growth=0.0) for name in ("nup", "mup_inverse_depth"))
    assert nup.forward_factors == fix.forward_factors
    assert [a / b for a, b in zip(nup.rates, fix.rates, strict=True)] == pytest.approx([7 / 6] * 7)


def test_monomial_is_a_product_of_powers():
    sizes = Sizes(gain=1.5, fan_in=4, fan_out=5, readout_fan_in=9, hidden_layers=3, depth=7)
    assert Monomial()(sizes) == 1.0
    every = Monomial(gain=2, fan_in=-0.5, fan_out=1, readout_fan_in=0.5, hidden_layers=-1, depth=3)
    assert every(sizes) == pytest.approx(1.5**2 / 2 * 5 * 3 / 3 * 343)
    for index, field in enumerate(fields(Monomial)):  # one field at a time reads the size of its own name
        assert Monomial(**{field.name: 1})(sizes) == (1.5, 4, 5, 9, 3, 7)[index]


def test_other_architectures_use_the_same_rows():
    # Embedding (vocabulary 50, width 16), a transformer block's fourfold expansion and contraction, and a head.
    common = {"readout_fan_in": 16, "hidden_layers": 3, "depth": 4}
    layers = {
        "embedding": ("input", Sizes(1.0, 50, 16, **common)),
        "expand": ("hidden", Sizes(2.0, 16, 64, **common)),
        "contract": ("hidden", Sizes(2.0, 64, 16, **common)),
        "head": ("readout", Sizes(2.0, 16, 50, **common)),
    }

    def row(name: str, richness: float = 1.0) -> dict[str, tuple[float, float]]:
        found = {layer: scaling(name, role, sizes, richness) for layer, (role, sizes) in layers.items()}
        return {layer: (pytest.approx(s.forward), pytest.approx(s.rate)) for layer, s in found.items()}

    embedding, expand, contract = 1 / math.sqrt(50), 2 / 4, 2 / 8
    assert row("mup") == {
        "embedding": (embedding, 16), "expand": (expand, 64), "contract": (contract, 16), "head": (2 / 16, 16),
    }  # fmt: skip
    rate = 16 / 3 / 4  # m_L/(l−1)·ρ², the same for every layer
    assert row("nup", richness=0.5) == {
        "embedding": (embedding, rate), "expand": (expand, rate), "contract": (contract, rate), "head": (4 / 16, rate),
    }  # fmt: skip
    assert row("sp") == {
        "embedding": (embedding, 50), "expand": (expand, 4), "contract": (contract, 16), "head": (2 / 4, 4),
    }  # fmt: skip


def test_a_new_row_is_all_that_a_new_rule_needs(monkeypatch):
    same = dict.fromkeys(ROLES, Monomial(fan_in=-1))
    monkeypatch.setitem(PARAMETERIZATIONS, "mine", Parameterization(same, same, growth=0.0, source="a test"))
    assert scaling("mine", "hidden", Sizes(1.0, 4, 5, 6, 1, 2)) == Scaling(0.25, 0.25)
    assert MLP(4, 2, parameterization="mine", depth=2, width=8, growth=0.0).rates == (0.25, 0.125)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"parameterization": "foo"},
            "parameterization=foo is not possible: it must be one of nup, mup, mup_inverse_depth, ntp, sp.",
        ),
        ({"parameterization": None}, "parameterization=null is not possible: it must be one of nup, mup,"),
        ({"role": "output"}, "role=output is not possible: it must be one of input, hidden, readout."),
        ({"richness": 0.0}, "richness=0.0 is not possible: it must be a finite number above 0."),
        ({"richness": -1.0}, "richness=-1.0 is not possible: it must be a finite number above 0."),
        (
            {"richness": 1e300},
            "richness=1e+300 is not possible: the learning rates' factor would be inf, which float32 does not hold; "
            "choose one nearer to 1.",
        ),
        ({"richness": 1e20}, "richness=1e+20 is not possible: the learning rates' factor would be 6e+40, which"),
        ({"richness": 1e-300}, "richness=1e-300 is not possible: the learning rates' factor would be 0, which"),
        ({"richness": 1e-20}, "richness=1e-20 is not possible: the learning rates' factor would be 6e-40, which"),
        ({"richness": math.nan}, "richness=nan is not possible: it must be a finite number above 0."),
    ],
)
def test_refusals(change, complaint):
    arguments = {"parameterization": "nup", "role": "hidden", "sizes": Sizes(1.0, 4, 5, 6, 1, 2)} | change
    with pytest.raises(InvalidInput) as caught:
        scaling(**arguments)
    assert str(caught.value).startswith(complaint)


@pytest.mark.parametrize("name", ["fan_in", "fan_out", "readout_fan_in", "hidden_layers", "depth"])
@pytest.mark.parametrize("value", [0, -4, 2.5, True, None])
def test_sizes_that_are_none(name, value):
    sizes = {"gain": 1.0, "fan_in": 4, "fan_out": 5, "readout_fan_in": 6, "hidden_layers": 1, "depth": 2}
    with pytest.raises(InvalidInput, match=rf"^{name}=.* is not possible: it must be an integer of at least 1\.$"):
        Sizes(**sizes | {name: value})


@pytest.mark.parametrize("gain", [0.0, -1.0, math.inf, math.nan])
def test_a_gain_that_is_none(gain):
    with pytest.raises(InvalidInput, match=rf"^gain={gain} is not possible: it must be a finite number above 0\.$"):
        Sizes(gain, 4, 5, 6, 1, 2)


SYMBOLS = {
    "gain": r"\sigma",
    "fan_in": "m_{k-1}",
    "fan_out": "m_k",
    "readout_fan_in": "m_L",
    "hidden_layers": "(l-1)",
    "depth": "l",
}


def written(rule: Monomial) -> str:
    """The rule as docs/theory.md writes it."""
    above, below = [], []
    for field in fields(rule):
        exponent = getattr(rule, field.name)
        symbol = SYMBOLS[field.name]
        power = {0.5: rf"\sqrt{{{symbol}}}", 1: symbol, 2: f"{symbol}^2"}.get(abs(exponent))
        if exponent:
            (above if exponent > 0 else below).append(power)
    numerator, denominator = r"\,".join(above) or "1", r"\,".join(below)
    return f"${numerator}/{denominator}$" if below else f"${numerator}$"


def test_the_table_in_the_docs_is_the_code():
    text = (Path(__file__).parents[2] / "docs" / "theory.md").read_text(encoding="utf-8")
    for name, row in PARAMETERIZATIONS.items():
        cells = [f"`{name}`", f"{row.growth:g}"]
        cells += [written(rule[role]) for rule in (row.forward, row.rate) for role in ROLES]
        line = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert [cell.strip() for cell in line.strip("|").split("|")] == cells
