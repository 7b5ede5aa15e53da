"""Small networks train on one thread, unless the environment says otherwise."""

from __future__ import annotations

import pytest
import torch

from eoc.training.module import EdgeOfChaosModule
from eoc.training.threads import CHOSEN_BY, SMALL, few_threads
from support import NO_FIGURE, trained


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    for name in CHOSEN_BY:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def inside(examples: int, parameters: int) -> int:
    with few_threads(examples, parameters):
        found = torch.get_num_threads()
    assert torch.get_num_threads() == 2
    return found


def test_a_small_problem_takes_one_thread_and_puts_back_what_was() -> None:
    assert (inside(1000, SMALL // 1000), inside(1000, SMALL // 1000 + 1)) == (1, 2)
    with pytest.raises(ZeroDivisionError), few_threads(1, 1):
        raise ZeroDivisionError
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("name", CHOSEN_BY)
def test_the_environment_says_otherwise(name, monkeypatch) -> None:
    monkeypatch.setenv(name, "2")
    assert inside(10, 10) == 2


@pytest.mark.parametrize(("smallest", "threads"), [(SMALL, 1), (0, 2)])
def test_a_run_trains_so(smallest, threads, tmp_path, monkeypatch) -> None:
    seen = []
    step = EdgeOfChaosModule.training_step
    monkeypatch.setattr("eoc.training.threads.SMALL", smallest)
    monkeypatch.setattr(
        EdgeOfChaosModule, "training_step", lambda *given: seen.append(torch.get_num_threads()) or step(*given)
    )
    trained(tmp_path, NO_FIGURE, "trainer.max_steps=2")
    assert seen == [threads, threads]
    assert torch.get_num_threads() == 2
