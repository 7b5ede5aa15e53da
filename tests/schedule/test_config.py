"""Every file of the schedule group builds its rule, and its defaults are the code's."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from eoc.schedule import Alignment, Constant, Cosine, Geometric, Schedule, Warmup

FOLDER = Path(__file__).parents[2] / "conf" / "schedule"
EXPECTED = {
    "constant": Constant(),
    "warmup": Warmup(),
    "cosine": Cosine(1.0, "inverse_sharpness", total_steps=123),
    "geometric": Geometric(total_steps=123),
    "alignment": Alignment(),
}


def built(name: str) -> Schedule:
    group = OmegaConf.load(FOLDER / f"{name}.yaml")
    return instantiate(OmegaConf.create({"schedule": group, "trainer": {"max_steps": 123}}).schedule)


def test_no_file_is_left_out() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_builds_its_rule_with_the_defaults_of_the_code(name: str) -> None:
    schedule = built(name)
    assert type(schedule) is type(EXPECTED[name])
    assert vars(schedule) == vars(EXPECTED[name])


@pytest.mark.parametrize("name", EXPECTED)
def test_every_key_has_a_comment(name: str) -> None:
    lines = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    keys = [line for line in lines if ":" in line.split("#")[0] and not line.startswith("_target_")]
    assert keys
    assert all("#" in line for line in keys)
