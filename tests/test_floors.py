"""The arrows of the house: what each room may import, read from the source of every module."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]


class Room(NamedTuple):
    """What the modules of a room may import beside the standard library, ``eoc.errors`` and themselves."""

    rooms: tuple[str, ...]  # rooms of eoc
    outside: frozenset[str]  # third-party modules


PLAIN = frozenset({"torch", "jaxtyping"})
ARRAYS = frozenset({"numpy"})
FIGURES = frozenset({"numpy", "pandas", "matplotlib"})
LIGHTNING = frozenset({"pytorch_lightning", "tqdm"})
HYDRA = frozenset({"hydra", "omegaconf"})
OPTIONAL = frozenset({"tensorboard", "wandb_workspaces"})  # of the extra "dashboards": imported where they are used
FLOORS_0_TO_2 = ("model", "dynamics", "data", "schedule")

# The house, from the ground up. A room that is missing here may not exist.
HOUSE = {
    "": Room((), frozenset()),
    "errors": Room((), frozenset()),
    "model": Room((), PLAIN),
    "dynamics": Room(("model",), PLAIN),
    "data": Room(("model", "dynamics"), PLAIN | ARRAYS | {"torchvision", "sklearn", "PIL"}),
    "schedule": Room(("model", "dynamics"), PLAIN),
    "tracking": Room(FLOORS_0_TO_2, PLAIN | FIGURES | LIGHTNING | {"wandb", "omegaconf"} | OPTIONAL),
    "training": Room((*FLOORS_0_TO_2, "tracking"), PLAIN | FIGURES | LIGHTNING | HYDRA | {"wandb", "scipy", "optuna"}),
    "hydra_plugins": Room(
        ("training",), HYDRA | {"submitit", "joblib", "cloudpickle"}
    ),  # where Hydra looks for what a project adds to it
    "analysis": Room(("tracking",), FIGURES | {"plotly", "scipy", "PIL"}),  # PIL: figures in a palette
    "door": Room((*FLOORS_0_TO_2, "training", "tracking", "analysis"), PLAIN | HYDRA),
}

# Modules whose distribution has another name.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml", "hydra": "hydra-core"}

# tomllib is older Pythons' tomli, imported under a test of the version.
STANDARD = frozenset({*sys.stdlib_module_names, "tomllib"})

# hydra_plugins is shared: what others put there comes with their distributions.
OURS = {"eoc", "hydra_plugins"}

SOURCES = sorted((ROOT / "src").rglob("*.py"))
DOORS = sorted(ROOT.glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name_of(path: Path) -> str:
    """The dotted name under which ``path``, a file below src/, is imported."""
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str, package: str = "") -> Iterator[str]:
    """Absolute dotted names of everything that ``source`` imports, wherever in the file; ``package`` is its own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> set[str]:
    """`imported` of a file."""
    package = ""
    if path.is_relative_to(ROOT / "src"):
        package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    return set(imported(path.read_text(encoding="utf-8"), package))


def room_of(name: str) -> str:
    """The room that the dotted ``name`` lies in: ``eoc.model.mlp.MLP`` in ``model``, ``eoc.__version__`` in ``""``."""
    if name.startswith("hydra_plugins."):
        return "hydra_plugins"
    room = name.split(".")[1] if "." in name else ""
    return "" if room.startswith("__") else room


def outside(names: set[str]) -> set[str]:
    """The top-level third-party modules among the dotted ``names``."""
    return {name.split(".")[0] for name in names} - STANDARD - OURS


def forbidden(room: str, names: set[str]) -> set[str]:
    """Those of the dotted ``names`` that a module of ``room`` may not import."""
    allowed = HOUSE[room]
    own = {room, "", "errors", *allowed.rooms}
    third_party = outside(names)
    return {
        name
        for name in names
        if (name.split(".")[0] == "eoc" and room_of(name) not in own)
        or (name.startswith("hydra_plugins.") and room != "hydra_plugins")
        or (name.split(".")[0] in third_party and name.split(".")[0] not in allowed.outside)
    }


def declared(*extras: str) -> set[str]:
    """Canonical names of the dependencies in pyproject.toml, with those of ``extras``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [
        *project["dependencies"],
        *(line for extra in extras for line in project["optional-dependencies"][extra]),
    ]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def undeclared(names: set[str], dependencies: set[str]) -> set[str]:
    """The third-party modules among the dotted ``names`` that no distribution of ``dependencies`` provides."""
    return {top for top in outside(names) if canonicalize_name(DISTRIBUTIONS.get(top, top)) not in dependencies}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_go_down_the_house_and_are_declared(path):
    room = room_of(name_of(path))
    assert room in HOUSE, f"{path.name} lies in no room of the table above"
    names = imports_of(path)
    assert forbidden(room, names) == set()
    assert undeclared(names, declared("dashboards", "slurm", "optuna")) == set()
    whole = ast.parse(path.read_text(encoding="utf-8"))
    at_once = ast.unparse([node for node in whole.body if isinstance(node, ast.Import | ast.ImportFrom)])
    assert undeclared(set(imported(at_once)), declared()) == set()


@pytest.mark.parametrize("path", DOORS, ids=lambda path: path.name)
def test_the_door_holds_no_library_but_hydra_and_is_declared(path):
    names = imports_of(path)
    assert forbidden("door", names) == set()
    assert undeclared(names, declared()) == set()


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_import_only_what_the_dev_extra_installs(path):
    local = {part for other in TESTS for part in other.relative_to(ROOT / "tests").with_suffix("").parts}
    local |= {other.stem for other in DOORS}
    names = {name for name in imports_of(path) if name.split(".")[0] not in {*local, ""}}
    assert undeclared(names, declared("dev")) == set()


def test_the_table_has_no_arrow_up_and_no_stale_row():
    order = list(HOUSE)
    for room, (rooms, _) in HOUSE.items():
        assert all(order.index(below) < order.index(room) for below in rooms), room
    assert {room_of(name_of(path)) for path in SOURCES} | {"door"} == set(HOUSE)


@pytest.mark.parametrize("room", ["errors", "model", "dynamics", "data", "schedule", "analysis"])
@pytest.mark.parametrize("library", ["hydra", "pytorch_lightning", "wandb"])
def test_the_rooms_for_any_loop_know_no_framework(room, library):
    assert forbidden(room, {f"{library}.core"}) == {f"{library}.core"}


@pytest.mark.parametrize("room", [room for room in HOUSE if room not in ("analysis", "door")])
def test_nothing_below_the_door_imports_analysis(room):
    assert forbidden(room, {"eoc.analysis.figures"}) == {"eoc.analysis.figures"}


def test_imports_are_found_in_every_form():
    source = """
from __future__ import annotations
import numpy.linalg as la, wandb
from eoc import model
from . import base
from ..dynamics.curvature import top
from .deep.er import x
def f():
    if True:
        from hydra.utils import instantiate
"""
    assert set(imported(source, "eoc.training")) == {
        "__future__.annotations",
        "numpy.linalg",
        "wandb",
        "eoc.model",
        "eoc.training.base",
        "eoc.dynamics.curvature.top",
        "eoc.training.deep.er.x",
        "hydra.utils.instantiate",
    }


def test_an_arrow_up_and_an_undeclared_module_are_seen():
    assert forbidden("model", {"math", "torch.nn", "eoc.errors.real", "eoc.model.widths", "eoc.__version__"}) == set()
    assert forbidden("model", {"eoc.dynamics.cosines", "numpy"}) == {"eoc.dynamics.cosines", "numpy"}
    assert forbidden("data", {"eoc.schedule.base"}) == {"eoc.schedule.base"}
    assert undeclared({"sklearn.datasets", "yaml", "math"}, {"scikit-learn"}) == {"yaml"}
