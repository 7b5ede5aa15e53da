"""The tests of this folder start daemons as root: only ``make test-slurm`` asks for them."""

from __future__ import annotations

import os

import pytest

ASKED = "EOC_TEST_SLURM"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if ASKED in os.environ:
        return
    for item in items:
        if "slurm" in item.path.parts:
            item.add_marker(pytest.mark.skip(reason="make test-slurm runs it, as root"))
