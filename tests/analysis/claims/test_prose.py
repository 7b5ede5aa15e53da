"""Numbers in sentences are those of the results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eoc.analysis.claims.documents import fill
from eoc.analysis.claims.prose import filled, shown
from eoc.analysis.claims.results import CLAIMS
from eoc.errors import InvalidInput


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    for dataset, value in (("digits", -1.38), ("mnist", -1.42)):
        (folder / dataset).mkdir(parents=True)
        claim = {"experiment": "lr_transfer", "name": "drift", "measured": {"value": value, "low": -2, "high": None}}
        (folder / dataset / CLAIMS).write_text(json.dumps({"claims": [claim]}))
        (folder / dataset / "catapult.csv").write_text(f"model,spike\nnup,3\nntp,{value}\nnup,5\n")
    return folder


@pytest.mark.parametrize(
    ("expression", "number"),
    [
        ('shown(measured("digits", "lr_transfer", "drift").value, 2)', "−1.38"),
        ('shown(measured("mnist", "lr_transfer", "drift").low)', "−2"),
        ('shown((-measured(d, "lr_transfer", "drift").value for d in ("digits", "mnist")), 2)', "1.38 to 1.42"),
        ('len(cells("digits", "catapult").query("model == \'nup\'"))', "2"),
        ('shown(np.exp(np.log(cells("digits", "catapult").query("spike > 0")["spike"]).mean()), 2)', "3.87"),
    ],
)
def test_a_number_is_what_its_expression_says(expression: str, number: str, results: Path) -> None:
    text = f"It falls by <!--= {expression} -->0<!--/--> octaves, and by 7.\n"
    assert filled(text, results) == f"It falls by <!--= {expression} -->{number}<!--/--> octaves, and by 7.\n"


def test_a_table_that_is_read_twice_is_not_changed_by_the_first(results: Path) -> None:
    once = '<!--= cells("digits", "catapult").pop("spike").max() --><!--/-->'
    assert filled(f"x {once} {once}", results).count("5.0<!--/-->") == 2


@pytest.mark.parametrize(
    ("values", "digits", "sign", "written"),
    [
        (0.25, 1, False, "0.2"),
        (-0.04, 1, False, "0.0"),
        (0.04, 1, True, "0.0"),
        (0.3, 1, True, "+0.3"),
        (1234.0, -2, False, "1200"),
        ([0.31, 0.29], 1, False, "0.3"),
        (np.array([3.0, -1.0, 2.0]), 0, True, "−1 to +3"),
        (range(3), 0, False, "0 to 2"),
    ],
)
def test_how_numbers_are_written(values: object, digits: int, sign: bool, written: str) -> None:
    assert shown(values, digits, sign) == written


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            'a <!--= measured("digits", "lr_transfer", "nosuch").value -->1<!--/-->',
            "digits has no claim lr_transfer/no",
        ),
        ('a <!--= cells("nosuch", "catapult") -->1<!--/-->', "No such file"),
        ("a <!--= shown([]) -->1<!--/-->", "there is no number"),
        ('a <!--= shown(cells("digits", "catapult")["spike"] * np.nan) -->1<!--/-->', "one is not defined"),
        ("a <!--= 1 + -->1<!--/-->", "invalid syntax"),
        ("a\n<!--= 1 -->1<!--/-->", "must not begin a line"),
        ("a\n - <!--= 1 -->1<!--/-->", "must not begin a line"),
        ("<!--= 1 -->1<!--/-->", "must not begin a line"),
        ("a <!--= 1 -->1 octaves, and <!--= 2 -->2<!--/-->", "1 numbers are complete, .* others are not"),
        ("a <!--= 1 -->1<!--/-->, <!-- = 2 -->2<!--/-->", "1 numbers are complete, .* others are not"),
        ("a <!--= 1 -->1<!-- / -->", "0 numbers are complete, .* others are not"),
    ],
)
def test_what_cannot_be_computed_is_refused_in_one_sentence(text: str, why: str, results: Path, tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(text)
    with pytest.raises(InvalidInput, match=rf"^--fill=.* is not possible: .*{why}"):
        fill(document, results)
    assert document.read_text() == text
