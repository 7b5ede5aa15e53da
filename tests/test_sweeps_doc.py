"""Every command of docs/sweeps.md can be typed: its settings compose, its options are known."""

from __future__ import annotations

import re
import shlex
import warnings
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from eoc.analysis.__main__ import _parser
from support import CONF

DOC = (Path(__file__).resolve().parents[1] / "docs" / "sweeps.md").read_text()
LINES = [line for block in re.findall(r"```sh\n(.*?)```", DOC, re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("line", [line for line in LINES if "train.py" in line])
def test_a_sweep_composes(line: str) -> None:
    program, script, flag, *words = shlex.split(line)
    assert (program, script, flag) == ("python", "train.py", "-m")
    first = []
    for override in OverridesParser.create().parse_overrides(words):
        discrete = override.is_sweep_override() and override.is_discrete_sweep()
        value = next(override.sweep_string_iterator()) if discrete else None
        first.append(f"{override.key_or_group}={value}" if discrete else override.input_line)
    with initialize_config_dir(str(CONF), version_base="1.3"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of submitit_local, which replaces another of that name
        assert compose("config", overrides=first).model.depth >= 2


@pytest.mark.parametrize("line", [line for line in LINES if "train.py" not in line])
def test_an_analysis_is_understood(line: str) -> None:
    program, flag, module, *words = shlex.split(line)
    assert (program, flag, module) == ("python", "-m", "eoc.analysis")
    assert _parser().parse_args(words).folder == Path("runs/sweeps/depth")


def test_every_line_is_one_of_these() -> None:
    assert len(LINES) > 10
    assert all(re.match(r"python (train\.py -m|-m eoc\.analysis) ", line) for line in LINES)
