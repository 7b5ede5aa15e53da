"""Errands are run in order, cost whoever hands them over nothing, and end at the first that fails or hangs."""

from __future__ import annotations

import threading
import time

import pytest

from eoc.tracking.courier import Courier


def test_errands_are_run_in_order_and_waited_for() -> None:
    done: list[int] = []
    courier = Courier("test")
    for number in range(50):
        courier.send(lambda number=number: (time.sleep(0.001), done.append(number)), seconds=5)
    assert courier.finish(lambda: done.append(-1), seconds=5)
    assert done == [*range(50), -1]
    assert courier.failure is None


def test_handing_over_does_not_wait() -> None:
    courier, gate = Courier("test"), threading.Event()
    start = time.perf_counter()
    for _ in range(1000):
        courier.send(gate.wait, seconds=5)
    assert time.perf_counter() - start < 0.5
    gate.set()
    assert courier.finish(lambda: None, seconds=5)


@pytest.mark.parametrize("failure", [ValueError("no"), SystemExit(3)])
def test_behind_a_failure_only_the_last_errand_is_run(failure: BaseException) -> None:
    done: list[str] = []

    def fail() -> None:
        raise failure

    courier = Courier("test")
    courier.send(lambda: done.append("first"), seconds=5)
    courier.send(fail, seconds=5)
    courier.send(lambda: done.append("second"), seconds=5)
    assert courier.finish(lambda: done.append("last"), seconds=5)
    assert done == ["first", "last"]
    assert courier.failure is failure


def test_a_failure_of_the_last_errand_is_kept_and_the_first_failure_counts() -> None:
    def fail(word: str) -> None:
        raise ValueError(word)

    courier = Courier("test")
    assert courier.finish(lambda: fail("last"), seconds=5)
    assert str(courier.failure) == "last"
    courier = Courier("test")
    courier.send(lambda: fail("first"), seconds=5)
    assert courier.finish(lambda: fail("last"), seconds=5)
    assert str(courier.failure) == "first"


def test_many_slow_errands_are_waited_for_no_longer_than_all_of_them_may_take() -> None:
    done: list[object] = []
    courier = Courier("test")
    for number in range(40):
        courier.send(lambda number=number: (time.sleep(0.1), done.append(number)), seconds=1)
    start = time.perf_counter()
    assert courier.finish(lambda: done.append("last"), seconds=0.35, closing=5)
    assert 0.3 < time.perf_counter() - start < 2.0
    assert 0 < len(done) < 20
    assert done[-1] == "last"
    assert str(courier.failure) == "it is too slow"


def test_a_start_is_waited_for_besides() -> None:
    done: list[str] = []
    courier = Courier("test")
    courier.send(lambda: (time.sleep(0.6), done.append("started")), seconds=10)
    courier.send(lambda: done.append("row"), seconds=0.3)
    assert courier.finish(lambda: done.append("last"), seconds=0.3)
    assert done == ["started", "row", "last"]
    assert courier.failure is None


def test_a_last_errand_that_takes_too_long_is_given_up() -> None:
    gate = threading.Event()
    courier = Courier("test")
    courier.send(lambda: time.sleep(0.2), seconds=5)
    start = time.perf_counter()
    assert not courier.finish(gate.wait, seconds=0.3, closing=0.2)
    assert time.perf_counter() - start < 2.0
    assert isinstance(courier.failure, TimeoutError)
    gate.set()


def test_a_hanging_errand_is_given_up() -> None:
    gate, done = threading.Event(), []
    courier = Courier("test")
    courier.send(gate.wait, seconds=0.1)
    courier.send(lambda: done.append("behind"), seconds=5)
    start = time.perf_counter()
    assert not courier.finish(lambda: done.append("last"), seconds=5)
    assert 0.05 < time.perf_counter() - start < 1.0
    assert isinstance(courier.failure, TimeoutError)
    gate.set()


def test_a_hang_is_noticed_while_handing_over_and_nothing_piles_up() -> None:
    gate, done = threading.Event(), []
    courier = Courier("test")
    courier.send(gate.wait, seconds=0.05)
    time.sleep(0.2)
    courier.send(lambda: done.append("dropped"), seconds=5)
    assert isinstance(courier.failure, TimeoutError)
    gate.set()
    time.sleep(0.2)  # it comes back after all
    courier.finish(lambda: done.append("last"), seconds=5)
    assert done == ["last"]
