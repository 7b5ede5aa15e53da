"""Numbers inside the sentences of Markdown documents, computed from ``results/`` so that none is copied by hand.

A document writes a number with the Python expression that it comes from, in a comment that Markdown does not show:
``falls by <!--= shown(measured("mnist", "lr_transfer", "nup_drift").value, 1) -->−1.4<!--/--> octaves``. Expressions
know `measured`, `remarked`, `cells`, `shown`, and `bench`, `cost` and `error` for the curvature engine's measurements,
numpy as ``np``, and ``MAIN``, the three data sets of 200 to 300 images.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eoc.analysis.claims.base import Estimate
from eoc.analysis.claims.results import CLAIMS
from eoc.errors import InvalidInput

PLACE = re.compile(r"(<!--= ?((?:(?!-->).)*?) ?-->)((?:(?!<!--).)*)(<!--/-->)", re.DOTALL)
BEGUN, ENDED = re.compile(r"<!--\s*="), re.compile(r"<!--\s*/\s*-->")
AT_THE_START = re.compile(r"\s*(?:[-*+>]|\d+[.)])?\s*")  # of a line, where Markdown takes a comment for HTML
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
MAIN = ("digits", "mnist", "cifar10")


class Results:
    """What an expression can ask for.

    Args:
        folder: of all data sets' results.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[tuple[str, str], Any] = {}

    def measured(self, dataset: str, experiment: str, claim: str) -> Estimate:
        """What was measured for a claim: ``value``, ``low`` and ``high``."""
        return Estimate.read(self._claim(dataset, experiment, claim)["measured"])

    def remarked(self, dataset: str, experiment: str, claim: str) -> list[float]:
        """The numbers in a claim's remark, in their order."""
        return [float(number) for number in NUMBER.findall(self._claim(dataset, experiment, claim)["remark"])]

    def _claim(self, dataset: str, experiment: str, claim: str) -> dict[str, Any]:
        if (dataset, CLAIMS) not in self._read:
            self._read[dataset, CLAIMS] = json.loads((self._folder / dataset / CLAIMS).read_text())["claims"]
        for found in self._read[dataset, CLAIMS]:
            if (found["experiment"], found["name"]) == (experiment, claim):
                return dict(found)
        raise LookupError(f"{dataset} has no claim {experiment}/{claim}")

    def cells(self, dataset: str, table: str) -> pd.DataFrame:
        """The rows of ``results/<dataset>/<table>.csv``, a copy."""
        if (dataset, table) not in self._read:
            self._read[dataset, table] = pd.read_csv(self._folder / dataset / f"{table}.csv")
        frame: pd.DataFrame = self._read[dataset, table].copy()
        return frame

    def bench(self, file: str, *keys: str) -> Any:
        """A value of ``<file>.json`` below ``benchmarks/``, beside the results, by the keys that lead to it."""
        if (file, "") not in self._read:
            (path,) = (self._folder.parent / "benchmarks").rglob(f"{file}.json")
            self._read[file, ""] = json.loads(path.read_text())
        value = self._read[file, ""]
        for key in keys:
            value = value[key]
        return value

    def cost(self, file: str, phase: str, method: str) -> float:
        """Median cost of a method of the bench in a phase (``edge_of_stability`` or ``catapult``), in gradients."""
        return self._method(file, phase, method, "gradients_median")

    def error(self, file: str, phase: str, method: str) -> float:
        """Largest relative error of a method of the bench in a phase."""
        return self._method(file, phase, method, "error_worst")

    def _method(self, file: str, phase: str, method: str, quantity: str) -> float:
        summary = self.bench(file, phase, "summary")
        return float({**summary["methods"], **summary["peers"]}[method][quantity])


def shown(values: float | Iterable[float], digits: int = 0, sign: bool = False) -> str:
    """Write a number with so many decimals, and of several the smallest and the largest: "1.3 to 1.4".

    Args:
        values: a number, or numbers.
        digits: decimals; negative ones round to tens and hundreds.
        sign: write a plus before positive numbers.
    """
    several = np.atleast_1d(np.asarray(list(values) if isinstance(values, Iterable) else values, dtype=float))
    if not len(several) or np.isnan(several).any():
        raise ValueError("there is no number, or one is not defined")
    ends = [_written(end, digits, sign) for end in (several.min(), several.max())]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def filled(text: str, folder: Path) -> str:
    """Return the document with each number as its expression says.

    Raises:
        InvalidInput: an expression cannot be computed, or begins a line, which Markdown would take for HTML.
    """
    results = Results(folder)
    of_benches = {"bench": results.bench, "cost": results.cost, "error": results.error}
    of_claims = {"measured": results.measured, "remarked": results.remarked, "cells": results.cells}
    names = {**of_claims, **of_benches, "shown": shown, "np": np, "MAIN": MAIN}

    def number(match: re.Match[str]) -> str:
        if AT_THE_START.fullmatch(text, text.rfind("\n", 0, match.start()) + 1, match.start()):
            raise InvalidInput("--fill", match[2], "an expression must not begin a line: Markdown takes it for HTML")
        try:
            # The documents are the project's own, and as trusted as its code.
            value = str(eval(match[2], dict(names)))
        except Exception as error:
            raise InvalidInput("--fill", match[2], f"it cannot be computed: {error}") from None
        return f"{match[1]}{value}{match[4]}"

    places = len(PLACE.findall(text))
    if not len(BEGUN.findall(text)) == len(ENDED.findall(text)) == places:
        raise InvalidInput(
            "--fill", "document", f"{places} numbers are complete, <!--= … -->…<!--/-->, and others are not"
        )
    return PLACE.sub(number, text)


def _written(value: float, digits: int, sign: bool) -> str:
    rounded = round(value, digits) + 0.0  # no minus before 0
    return f"{rounded:{'+' if sign and rounded else ''}.{max(digits, 0)}f}".replace("-", "−")
