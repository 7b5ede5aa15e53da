"""Freed memory is taken again instead of being mapped anew."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEPS, SIZE = 40, 64 * 2**20
PROGRAM = f"""
import resource, sys
import torch
from eoc.training.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
for _ in range(10):
    torch.ones({SIZE // 4})
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({STEPS}):
    torch.ones({SIZE // 4})
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""


LINUX = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")


@LINUX
def test_a_vector_that_is_freed_and_taken_again_is_not_cleared_by_the_system_again():
    def cleared(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    if cleared("as it is") < SIZE * STEPS / 4:
        pytest.skip("the system maps huge pages: little is to be saved")
    assert cleared("kept") < SIZE


GROWN = """
import torch
from eoc.training.memory import give_memory_back, held, keep_freed_memory

keep_freed_memory()
before, cycle = held(), []
cycle.append((cycle, *(torch.ones(2**18) for _ in range(200)), torch.ones(2**10)))  # 1 MB each, and one that stays
stays = torch.ones(2**10)
assert held() - before > 190 * 2**20
del cycle
assert not give_memory_back(growth=400 * 2**20)
assert held() - before > 190 * 2**20  # unreachable, but there
assert give_memory_back()
assert not give_memory_back()  # it has not grown since
print(held() - before)
"""


@LINUX
def test_a_process_that_has_grown_gives_back_what_a_run_left_in_it():
    done = subprocess.run([sys.executable, "-c", GROWN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100 * 2**20


def test_the_program_sets_its_imports_apart_from_what_is_looked_at_for_garbage():
    program = "import gc, train; print(gc.get_freeze_count() > 100_000, len(gc.get_objects()) < 20_000, gc.isenabled())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]


def test_nothing_is_set_apart_after_the_first_time_so_that_garbage_of_later_runs_is_found():
    program = """
import gc
from eoc.training.memory import set_apart
set_apart()
first = gc.get_freeze_count()
later = [[] for _ in range(1000)]
set_apart()
print(first > 0, gc.get_freeze_count() <= first)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
