"""One declaration: the lock, conda's file, the Makefile and the citation say what pyproject.toml says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import eoc

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DEPENDENCIES = [Requirement(line) for lines in (PROJECT["dependencies"], *EXTRAS.values()) for line in lines]
PYTHONS = [f"3.{minor}" for minor in range(20) if f"3.{minor}.0" in SpecifierSet(PROJECT["requires-python"])]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def locked() -> list[Requirement]:
    """The lines of requirements.lock, without its comments."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.lock").read_text().splitlines())
    return [Requirement(line) for line in lines if line]


def environment(python: str) -> dict[str, str]:
    """What markers are evaluated in: Linux under the given minor version of CPython."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.5",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "os_name": "posix",
    }


def applies(requirement: Requirement, python: str) -> bool:
    """Whether ``requirement`` is for this version of Python."""
    return requirement.marker is None or requirement.marker.evaluate(environment(python))


def conda() -> tuple[list[str], list[str]]:
    """The conda and the pip part of environment.yml's dependencies."""
    entries = OmegaConf.to_container(OmegaConf.load(ROOT / "environment.yml"))["dependencies"]
    return [entry for entry in entries if isinstance(entry, str)], entries[-1]["pip"]


def test_the_supported_pythons_are_those_said_everywhere():
    assert PYTHONS == ["3.10", "3.11", "3.12", "3.13"]


@pytest.mark.parametrize("python", PYTHONS)
def test_each_dependency_is_locked_once_within_its_bounds(python):
    for dependency in DEPENDENCIES:
        if not applies(dependency, python):
            continue
        name = canonicalize_name(dependency.name)
        pins = [pin for pin in locked() if canonicalize_name(pin.name) == name and applies(pin, python)]
        assert len(pins) == 1, (dependency, pins)
        (version,) = pins[0].specifier
        assert version.operator == "=="
        assert dependency.specifier.contains(version.version, prereleases=True), (dependency, pins)


def test_the_lock_holds_exact_versions_and_names_no_place():
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|\bfile:|\s@\s|^\s*-|--hash", text, flags=re.MULTILINE)
    for pin in locked():
        assert [version.operator for version in pin.specifier] == ["=="], pin
        assert "*" not in str(pin.specifier)
        assert pin.url is None


def test_conda_lists_no_dependency_of_its_own():
    packages, _ = conda()
    names = [re.split(r"[=<>! ]", package)[0] for package in packages]
    assert names == ["python", "pip"]
    assert not {canonicalize_name(name) for name in names} & {canonicalize_name(d.name) for d in DEPENDENCIES}


def test_conda_takes_a_python_that_is_allowed():
    version = conda()[0][0].partition("=")[2]
    assert version in PYTHONS
    assert version == "3.11"


def test_conda_installs_what_make_installs():
    (made,) = re.findall(r"pip install \S+ (-c \S+) (-e) '(\S+)';", MAKEFILE)
    assert conda()[1] == [made[0], " ".join(made[1:])]
    assert made == ("-c requirements.lock", "-e", ".[dev]")
    assert "dev" in EXTRAS


def test_the_citation_is_of_this_version_and_of_the_paper():
    cited = OmegaConf.to_container(OmegaConf.load(ROOT / "CITATION.cff"))
    assert cited["cff-version"] == "1.2.0"
    assert cited["version"] == PROJECT["version"] == eoc.__version__
    assert cited["license"] == PROJECT["license"]
    assert cited["authors"] == PROJECT["authors"]
    (paper,) = cited["references"]
    assert paper["title"] == "MLPs at the EOC: Dynamics of Feature Learning"
    assert paper["authors"] == [{"family-names": "Terjék", "given-names": "Dávid"}]
    assert paper["year"] == 2025
    assert paper["url"] == PROJECT["urls"]["Paper"] == "https://arxiv.org/abs/2502.13110"


def test_ci_calls_lint_and_then_test_from_the_root_and_stops_at_a_failure(tmp_path):
    """Under stand-ins: make and apt-get write down each call, and fail at the one named in FAIL."""
    root, programs = tmp_path / "repository", tmp_path / "bin"
    run = root / ".ci" / "run"
    noted = f'echo "$(basename "$0") $*" >> "{tmp_path}/calls"; [ "$*" != "$FAIL" ]'

    def stand_in(path: Path, script: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)

    stand_in(run, (ROOT / ".ci" / "run").read_text())
    stand_in(root / ".venv" / "bin" / "python", "#!/bin/sh\n")
    stand_in(programs / "make", f'#!/bin/sh\n[ "$PWD" = "{root}" ] || exit 9\n{noted}\n')
    stand_in(programs / "apt-get", f"#!/bin/sh\n{noted}\n")
    for name in ("bash", "sh", "dirname", "basename"):  # and nothing else of this machine
        (programs / name).symlink_to(shutil.which(name))

    def called(fail: str = "") -> tuple[bool, list[str], str]:
        (tmp_path / "calls").unlink(missing_ok=True)
        done = subprocess.run(
            [programs / "bash", run],
            cwd="/",
            env={"PATH": str(programs), "FAIL": fail},
            capture_output=True,
            text=True,
            timeout=20,
        )
        return done.returncode == 0, (tmp_path / "calls").read_text().splitlines(), done.stdout

    update, chromium = "apt-get update --quiet", "apt-get install --quiet --yes --no-install-recommends chromium"
    checks, tests = ["make setup", "make lint"], "make test ARGS=-n 2"
    slurm = "make test-slurm ARGS=-k 'not time_is_up'"
    no_browser, no_slurm = "SKIPPED: tests/analysis/test_report_in_browser.py", "SKIPPED: make test-slurm"

    stand_in(programs / "id", "#!/bin/sh\necho 1000\n")
    passed, calls, said = called()
    assert (passed, calls) == (True, [*checks, tests])
    assert no_browser in said
    assert f"{no_slurm} (SLURM's daemons need root)" in said

    stand_in(programs / "id", "#!/bin/sh\necho 0\n")
    assert called(fail="test ARGS=-n 2") == (False, [*checks, update, chromium, tests], "")
    passed, calls, said = called(fail="update --quiet")
    assert passed
    assert (calls[:3], calls[3]) == ([*checks, update], tests)
    assert no_browser in said

    stand_in(programs / "slurmctld", "")
    assert called() == (True, [*checks, update, chromium, tests, slurm], "")
    stand_in(programs / "chromium", "")
    assert called() == (True, [*checks, tests, slurm], "")
    for fail, last in (("lint", 2), ("test ARGS=-n 2", 3), (slurm.removeprefix("make "), 4)):
        assert called(fail=fail) == (False, [*checks, tests, slurm][:last], "")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
