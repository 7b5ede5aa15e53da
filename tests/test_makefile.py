"""The Makefile in a copy of its own, with a stand-in for Python that writes down what it is told to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from test_packaging import MAKEFILE, PROJECT, ROOT

TARGETS = ["help", "setup", "train", "test", "test-slurm", "reproduce", "dashboard", "dashboard-web", "bench", "lint"]
TARGETS += ["format", "lock", "clean"]

# `-c` (does it fit?) says yes, `-m venv DIR` puts a copy into DIR; all but the first is written down.
STAND_IN = """#!/bin/sh
case "$1 $2" in
    "-c "*) exit 0 ;;
    "-m venv") echo "venv $3" >> "$LOG"; mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *) echo "$*" >> "$LOG"; [ "$*" != "$FAIL" ] ;;
esac
"""
UPGRADE = "-m pip install --quiet pip==" + re.findall(r"^PIP := pip==(\S+)$", MAKEFILE, flags=re.MULTILINE)[0]
INSTALL = "-m pip install -c requirements.lock -e .[dev]"
UPDATE = "-m pip install --quiet -c requirements.lock -e .[dev]"
SET_UP = ["venv .venv", UPGRADE, INSTALL]


class Copy:
    """A repository of three files, in a folder with a space in its name."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bin, self.log = folder / "my eoc", folder / "bin", folder / "log"
        self.root.mkdir()
        self.bin.mkdir()
        for name in ("Makefile", "pyproject.toml", "requirements.lock"):
            shutil.copy(ROOT / name, self.root / name)
        self.put("python3.11", STAND_IN)

    def put(self, name: str, script: str) -> None:
        """Place an executable on the PATH."""
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    def make(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Call make from another folder; nothing of the caller's environment but the tools of the system gets in."""
        self.log.write_text("")
        variables = {"PATH": f"{self.bin}:/usr/bin:/bin", "LOG": str(self.log), **variables}
        command = ["make", "-C", str(self.root), *arguments]
        return subprocess.run(command, cwd="/", env=variables, capture_output=True, text=True, timeout=30)

    def calls(self, *arguments: str, **variables: str) -> list[str]:
        """What Python was told to do by a call of make that succeeds."""
        done = self.make(*arguments, **variables)
        assert done.returncode == 0, done.stderr
        return self.log.read_text().splitlines()

    def age(self, name: str, seconds: float) -> None:
        """Let a file have changed that long from now (negative: ago)."""
        moment = time.time() + seconds
        os.utime(self.root / name, (moment, moment))


pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def test_help_is_the_default_and_lists_every_target(copy):
    phony = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)[0].split()
    assert phony == TARGETS
    done = copy.make()
    assert re.findall(r"^make (\S+) +\S", done.stdout, flags=re.MULTILINE) == phony
    assert copy.make("help").stdout == done.stdout
    assert not (copy.root / ".venv").exists()


@pytest.mark.parametrize(
    ("target", "commands"),
    [
        ("train", ["train.py model=nup schedule=geometric seed=3 trainer.max_steps=9"]),
        ("test", ["-m pytest seed=3 trainer.max_steps=9"]),
        ("lint", ["-m ruff check", "-m ruff format --check", "-m mypy"]),
        ("format", ["-m ruff check --fix", "-m ruff format"]),
    ],
)
def test_each_target_sets_up_once_and_runs_its_commands(copy, target, commands):
    assert copy.calls(target, "ARGS=seed=3 trainer.max_steps=9") == [*SET_UP, *commands]
    assert copy.calls(target, "ARGS=seed=3 trainer.max_steps=9") == commands


def test_reproduce_runs_every_experiment_and_judges(copy):
    experiments = ("depth_curvature", "coordinate_check", "concentration", "lr_transfer", "kappa_transfer")
    for arguments, words, about in (
        ((), "", ""),
        (("DATASET=mnist", "DATA_ROOT=/data", "JOBS=5"), "dataset=mnist", "dataset=mnist"),
    ):
        calls = copy.calls("reproduce", *arguments)[-9:]
        for call, name in zip(calls, (*experiments, "cosines", "catapult", "geometric_schedule"), strict=False):
            assert call.startswith(" ".join(f"train.py experiment={name} {words}".split()))
            assert ("dataset.root=/data" in call) == bool(words)
            assert call.endswith(f"hydra.launcher.n_jobs={5 if words else 2} ~hydra.callbacks.report")  # at the end
        assert calls[-1].startswith(f"-m eoc.analysis.claims runs/reproduction/{'mnist' if words else 'digits'} --to")
        assert about in calls[-1]
        assert "/data" not in calls[-1]  # a path of one machine is no part of a result
    last = copy.calls("reproduce", "DATASET=mnist", "NAME=small", "ARGS=dataset.n_train=9")[-1]
    assert last == (
        "-m eoc.analysis.claims runs/reproduction/small --to results/small --options dataset=mnist dataset.n_train=9"
    )


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.lock"])
def test_a_changed_declaration_is_installed_into_the_same_environment(copy, name):
    copy.calls("setup")
    (copy.root / ".venv" / "kept").touch()
    copy.age(".venv/.setup-stamp", -60)
    for other in ("pyproject.toml", "requirements.lock", "Makefile"):
        copy.age(other, -120)
    copy.age("Makefile", -30)
    assert copy.calls("setup") == []
    copy.age(name, -30)
    assert copy.calls("setup") == [UPGRADE, UPDATE]
    assert copy.calls("setup") == []
    assert (copy.root / ".venv" / "kept").exists()


@pytest.mark.parametrize("failing", [UPGRADE, INSTALL])
def test_an_interrupted_set_up_fails_and_is_made_anew(copy, failing):
    assert copy.make("test", FAIL=failing).returncode != 0
    assert "-m pytest" not in copy.log.read_text()
    (copy.root / ".venv" / "half").touch()
    assert copy.calls("test") == [*SET_UP, "-m pytest"]
    assert not (copy.root / ".venv" / "half").exists()


def test_an_interrupted_update_is_made_anew(copy):
    copy.calls("setup")
    copy.age("pyproject.toml", 60)
    assert copy.make("setup", FAIL=UPDATE).returncode != 0
    copy.age("pyproject.toml", -60)
    assert copy.calls("setup") == SET_UP


def test_the_page_is_served_from_the_runs_that_were_named(copy):
    assert copy.calls("dashboard-web") == [*SET_UP, "-m eoc.analysis report runs --serve"]
    served = copy.calls("dashboard-web", "RUNS=my runs/a sweep", "ARGS=--port 0")
    assert served == ["-m eoc.analysis report my runs/a sweep --serve --port 0"]


def test_the_terminal_dashboard_opens_on_all_runs_or_says_that_there_are_none(copy):
    copy.calls("setup")
    done = copy.make("dashboard")
    assert done.returncode != 0
    assert done.stderr.startswith("runs/wandb has no W&B runs: make train leaves one")
    (copy.root / ".venv" / "bin" / "wandb").write_text('#!/bin/sh\necho "wandb $*" >> "$LOG"\n')
    (copy.root / ".venv" / "bin" / "wandb").chmod(0o755)
    for folder in ("runs", "other runs"):
        (copy.root / folder / "wandb").mkdir(parents=True)
        assert copy.calls("dashboard", f"RUNS={folder}") == [f"wandb leet {folder}/wandb"]


def test_a_shim_that_does_not_run_is_passed_over(copy):
    copy.put("python3.11", "#!/bin/sh\necho 'python3.11: command not found' >&2; exit 127\n")
    copy.put("python3.12", STAND_IN)
    done = copy.make("setup")
    assert done.returncode == 0
    assert "Making .venv with python3.12" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(("user", "code"), [("0", 0), ("1000", 2)])
def test_slurm_is_installed_where_it_is_missing_by_root_alone(copy, user, code):
    for name in ("slurmctld", "slurmd", "munged", "sbatch"):
        copy.put(name, "#!/bin/sh\n")
    copy.put("id", f"#!/bin/sh\necho {user}\n")
    copy.put("apt-get", '#!/bin/sh\necho "apt-get $1" >> "$LOG"\n')
    copy.make("setup")
    done = copy.make("test-slurm", "ARGS=-x")
    assert done.returncode == code
    if code:
        assert "needs root" in done.stderr
        assert copy.log.read_text() == ""
    else:
        assert copy.log.read_text().splitlines() == ["-m pytest tests/slurm -x"]


def test_no_usable_python_is_one_sentence(copy):
    for name in ("python3.10", "python3.11", "python3.12", "python3.13", "python3"):
        copy.put(name, "#!/bin/sh\nexit 1\n")
    for target in ("setup", "lock"):
        done = copy.make(target)
        assert done.returncode != 0
        said = done.stderr.splitlines()[0]
        assert said == (
            "No usable Python (tried python3.11 python3.12 python3.13 python3.10 python3): install Python 3.11 "
            "(3.10 to 3.13 work) with its venv module, or name one with 'make setup PYTHON=/path/to/python3.11'."
        )
    assert not (copy.root / ".venv").exists()


def test_the_python_that_was_named_is_used_or_refused(copy):
    copy.put("my python", STAND_IN)
    done = copy.make("setup", f"PYTHON={copy.bin}/my python")
    assert done.returncode == 0
    assert f"Making .venv with {copy.bin}/my python" in done.stdout
    copy.make("clean")
    refused = copy.make("setup", "PYTHON=python3.9")
    assert refused.returncode != 0
    assert refused.stderr.startswith("No usable Python (python3.9): install Python 3.11")


def test_the_search_for_an_interpreter_follows_requires_python():
    low, high = re.findall(r"\((3), (\d+)\) <= sys\.version_info\[:2\] <= \((3), (\d+)\)", MAKEFILE)[0][1::2]
    allowed = SpecifierSet(PROJECT["requires-python"])
    for minor in range(20):
        assert (f"3.{minor}.0" in allowed) == (int(low) <= minor <= int(high))
    names = re.findall(r"^PYTHONS := (.*)$", MAKEFILE, flags=re.MULTILINE)[0].split()
    assert names[0] == "python3.11"
    assert set(names) == {"python3", *(f"python3.{minor}" for minor in range(int(low), int(high) + 1))}


def test_clean_leaves_runs_data_and_sources(copy):
    kept = [
        "runs/a/metrics.csv",
        "data/mnist/train",
        "src/eoc/mlp.py",
        "tests/test_a.py",
        "runs/__pycache__/x",
    ]
    gone = [
        ".venv/x",
        ".cache/x",
        ".mypy_cache/x",
        ".pytest_cache/x",
        ".ruff_cache/x",
        ".hypothesis/x",
        "build/x",
    ]
    gone += ["dist/x", "src/eoc.egg-info/x", "src/eoc/__pycache__/x.pyc", "tests/data/__pycache__/x.pyc"]
    for name in (*kept, *gone):
        (copy.root / name).parent.mkdir(parents=True, exist_ok=True)
        (copy.root / name).write_text("")
    assert copy.calls("clean") == []
    assert [name for name in kept if not (copy.root / name).exists()] == []
    assert [name for name in gone if (copy.root / name).exists()] == []


def test_lock_resolves_every_python_and_extra_without_the_environment(copy):
    copy.put("uv", '#!/bin/sh\necho "uv $*" >> "$LOG"\n')
    # The stand-in's pip installs nothing, so uv is laid where pip would put it.
    copy.put(
        "python3.11",
        STAND_IN.replace('"$3/bin/python" ;;', f'"$3/bin/python" && cp {copy.bin}/uv "$3/bin/uv" ;;'),
    )
    calls = copy.calls("lock", "LOCK=--upgrade")
    assert calls[:2] == ["venv .cache/lock", "-m pip install --quiet uv"]
    assert calls[2].split()[:3] == ["uv", "pip", "compile"]
    assert {"--universal", "--all-extras", "--upgrade", "pyproject.toml"} <= set(calls[2].split())
    assert "--python-version 3.10 " in calls[2]
    assert not (copy.root / ".venv").exists()
