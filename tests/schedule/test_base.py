"""What all rules share: who is asked, what is refused, and that a saved rule continues exactly."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from eoc.errors import InvalidInput, RunFailure
from eoc.schedule import Alignment, Constant, Cosine, Geometric, Schedule, Warmup

BUILDERS = {
    "constant": lambda: Constant(0.7, "inverse_sharpness"),
    "constant absolute": lambda: Constant(0.7, "absolute"),
    "warmup": lambda: Warmup(1.3, "inverse_sharpness", warmup_steps=10),
    "cosine": lambda: Cosine(2, "inverse_sharpness", total_steps=30, warmup_steps=4, final_fraction=0.1),
    "geometric": lambda: Geometric(kappa=2.5),
    "geometric smoothed": lambda: Geometric(
        kappa=2.5, interval=3, smoothing=4, max_rate=4.0, cooldown=0.5, cooldown_kappa=0.5, total_steps=30
    ),
    "alignment": lambda: Alignment(1.0, "inverse_sharpness", target=-0.1, gain=0.3, max_rate=1.5),
}


def drive(schedule: Schedule, steps: range) -> list[float]:
    """Play a fixed sequence of measurements to a rule and return its rates."""
    rates = []
    for t in steps:
        if schedule.needs_sharpness(t):
            schedule.tell(t, sharpness=1.2 + math.sin(3.0 * t))
        rates.append(schedule.rate(t))
        if schedule.needs_cosine:
            schedule.tell(t, cosine=math.cos(2.0 * t) if t > 0 else None)
    return rates


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("cut", [1, 7, 18, 25])
def test_a_saved_rule_continues_as_if_uninterrupted(name: str, cut: int, tmp_path: Path) -> None:
    whole = drive(BUILDERS[name](), range(30))
    first = BUILDERS[name]()
    before = drive(first, range(cut))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = BUILDERS[name]()
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert before + drive(second, range(cut, 30)) == whole
    if name not in ("constant", "constant absolute"):
        assert len(set(whole)) > 3


@pytest.mark.parametrize("name", BUILDERS)
def test_a_saved_state_is_not_changed_by_going_on(name: str) -> None:
    schedule = BUILDERS[name]()
    drive(schedule, range(5))
    state = schedule.state_dict()
    copy = {key: list(value) if isinstance(value, list) else value for key, value in state.items()}
    drive(schedule, range(5, 20))
    assert state == copy


@pytest.mark.parametrize("name", BUILDERS)
def test_a_sharpness_nobody_asked_for_and_a_second_look_change_nothing(name: str) -> None:
    schedule = BUILDERS[name]()
    rates = []
    for t in range(30):
        schedule.tell(t, sharpness=1.2 + math.sin(3.0 * t) if schedule.needs_sharpness(t) else 1e6)
        rates.append(schedule.rate(t))
        assert schedule.rate(t) == rates[-1]
        if schedule.needs_cosine:
            schedule.tell(t, cosine=math.cos(2.0 * t) if t > 0 else None)
    assert rates == drive(BUILDERS[name](), range(30))


def test_the_state_of_another_rule_is_refused() -> None:
    with pytest.raises(InvalidInput, match="state=Constant is not possible: this run uses Geometric"):
        Geometric().load_state_dict(Constant().state_dict())
    with pytest.raises(InvalidInput, match="state=null"):
        Constant().load_state_dict({})


def test_a_rate_goes_on_within_the_new_bounds_and_in_its_own_unit() -> None:
    fast = Alignment(rate=1.0, unit="absolute")
    fast.tell(0, cosine=1.0)
    slow = Alignment(rate=1.0, unit="absolute", max_rate=0.2)
    slow.load_state_dict(fast.state_dict())
    assert slow.rate(1) == 0.2
    with pytest.raises(InvalidInput, match=r"^unit=inverse_sharpness .* in the unit absolute; keep it"):
        Alignment(rate=1.0).load_state_dict(fast.state_dict())
    with pytest.raises(InvalidInput, match=r"^unit=inverse_sharpness .* without measuring λ_0; keep absolute"):
        Constant(rate=1.0).load_state_dict(Constant(rate=1.0, unit="absolute").state_dict())
    scaled = Constant(rate=1.0)
    scaled.tell(0, sharpness=4.0)
    plain = Constant(rate=0.5, unit="absolute")
    plain.load_state_dict(scaled.state_dict())
    assert (scaled.rate(3), plain.rate(3)) == (0.25, 0.5)


def test_another_source_of_the_curvature_is_asked_anew() -> None:
    critical = Geometric(kappa=1.5, interval=10, source="critical")
    critical.tell(0, sharpness=0.01)
    hessian = Geometric(kappa=1.5, interval=10)
    hessian.load_state_dict(critical.state_dict())
    assert hessian.needs_sharpness(5)
    hessian.tell(5, sharpness=3.0)
    assert hessian.rate(5) == 0.5


def test_a_state_from_before_units_and_sources_were_kept_goes_on() -> None:
    geometric = Geometric()
    geometric.load_state_dict({"rule": "Geometric", "probes": [5.0], "told_step": 3})
    assert geometric.rate(3) == 0.5
    alignment = Alignment(rate=2.0)
    old = {"rule": "Alignment", "initial_sharpness": 4.0, "current_rate": 3.0, "told_step": 2}
    alignment.load_state_dict(old)
    assert alignment.rate(3) == 0.75


@pytest.mark.parametrize("name", ["geometric", "geometric smoothed", "alignment"])
def test_a_second_run_with_the_same_object_is_refused(name: str) -> None:
    schedule = BUILDERS[name]()
    drive(schedule, range(10))
    kept, last = schedule.state_dict(), schedule.state_dict()["told_step"]
    again = rf"^The schedule is told of step 0, but has been told up to step {last}; a new run needs a new schedule"
    with pytest.raises(RunFailure, match=again):
        drive(schedule, range(10))
    assert schedule.state_dict() == kept
    if name == "alignment":
        for cosine in (0.5, None):
            with pytest.raises(RunFailure, match=r"step 3, but .* step 9; a new run"):
                schedule.tell(3, cosine=cosine)
    schedule.load_state_dict(BUILDERS[name]().state_dict())  # of a run that has not begun
    assert drive(schedule, range(10)) == drive(BUILDERS[name](), range(10))


@pytest.mark.parametrize("name", ["constant", "warmup", "cosine"])
def test_a_rule_that_follows_the_clock_begins_again_at_step_0(name: str) -> None:
    schedule = BUILDERS[name]()
    schedule.tell(0, sharpness=100.0)
    schedule.rate(0)
    assert drive(schedule, range(30)) == drive(BUILDERS[name](), range(30))


@pytest.mark.parametrize("name", BUILDERS)
def test_a_state_that_lacks_something_is_refused_and_changes_nothing(name: str) -> None:
    schedule = BUILDERS[name]()
    rates = drive(schedule, range(5))
    whole = schedule.state_dict()
    fresh = BUILDERS[name]()
    for key in whole.keys() - {"rule", "unit", "source", "first_rate"}:
        with pytest.raises(InvalidInput, match=rf"^state=.* it lacks {key}; give what state_dict\(\) returned\.$"):
            fresh.load_state_dict({other: value for other, value in whole.items() if other != key})
    assert drive(fresh, range(5)) == rates


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"probes": []}, r"^state=\{.*told up to step 3, it must hold a sharpness in probes"),
        ({"probes": [0.0]}, "^state.probes=0.0 is not possible: it must be a finite number above 0"),
        ({"probes": [2.0, math.nan]}, "^state.probes=nan"),
        ({"told_step": None}, "^state.told_step=null"),
        ({"told_step": -2}, "^state.told_step=-2"),
    ],
)
def test_a_state_that_gives_no_rate_is_refused(change: dict[str, object], complaint: str) -> None:
    geometric = Geometric()
    with pytest.raises(InvalidInput, match=complaint):
        geometric.load_state_dict({"rule": "Geometric", "probes": [5.0], "told_step": 3} | change)
    geometric.tell(0, sharpness=5.0)
    assert geometric.rate(0) == 0.5


def test_settings_may_change_on_the_way() -> None:
    before = Geometric(kappa=2.0, smoothing=2)
    for t, sharpness in enumerate((1.0, 2.0, 4.0)):
        before.tell(t, sharpness=sharpness)
    after = Geometric(kappa=3.0, smoothing=1, interval=2)
    after.load_state_dict(before.state_dict())
    assert after.rate(3) == 3.0 / 4.0


@pytest.mark.parametrize("build", [Constant, Warmup, Alignment], ids=lambda rule: rule.__name__)
def test_the_initial_sharpness_is_asked_for_once_and_only_if_it_is_the_unit(build: type[Schedule]) -> None:
    relative, absolute = build(rate=1.0, unit="inverse_sharpness"), build(rate=1.0, unit="absolute")  # type: ignore[call-arg]
    assert [relative.needs_sharpness(t) for t in range(4)] == [True, False, False, False]
    assert not any(absolute.needs_sharpness(t) for t in range(4))
    with pytest.raises(RunFailure, match=r"rate of step 0 needs the sharpness of step 0.*tell\(0, sharpness=...\)"):
        relative.rate(0)


def test_only_alignment_needs_the_cosine() -> None:
    assert {name.split()[0] for name, build in BUILDERS.items() if build().needs_cosine} == {"alignment"}


@pytest.mark.parametrize("build", [Constant, Geometric], ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("sharpness", [0.0, -0.5])
def test_a_first_sharpness_that_is_not_positive_gives_no_rate(build: type[Schedule], sharpness: float) -> None:
    with pytest.raises(RunFailure, match=f"sharpness told at step 0 is {sharpness:g}, so no learning rate"):
        build().tell(0, sharpness=sharpness)


@pytest.mark.parametrize("build", [Constant, Geometric], ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("sharpness", [math.nan, math.inf, -math.inf])
def test_a_sharpness_that_is_not_finite_is_an_error(build: type[Schedule], sharpness: float) -> None:
    with pytest.raises(RunFailure, match=f"sharpness told at step 0 is {sharpness}: the loss or its curvature"):
        build().tell(0, sharpness=sharpness)


COSINE = {"rate": 1.0, "unit": "absolute", "total_steps": 100}


@pytest.mark.parametrize(
    ("build", "settings", "key"),
    [
        (Constant, {"rate": 0}, "rate"),
        (Constant, {"rate": -1.0}, "rate"),
        (Constant, {"rate": "fast"}, "rate"),
        (Constant, {"rate": None}, "rate"),
        (Constant, {"rate": math.nan}, "rate"),
        (Constant, {"rate": True}, "rate"),
        (Constant, {"unit": "sharpness"}, "unit"),
        (Constant, {"unit": None}, "unit"),
        (Warmup, {"warmup_steps": -1}, "warmup_steps"),
        (Warmup, {"warmup_steps": 2.5}, "warmup_steps"),
        (Cosine, {**COSINE, "total_steps": 0}, "total_steps"),
        (Cosine, {**COSINE, "total_steps": None}, "total_steps"),
        (Cosine, {**COSINE, "warmup_steps": 100}, "warmup_steps"),
        (Cosine, {**COSINE, "final_fraction": 1.1}, "final_fraction"),
        (Cosine, {**COSINE, "final_fraction": -0.1}, "final_fraction"),
        (Geometric, {"kappa": 0}, "kappa"),
        (Geometric, {"kappa": -2.5}, "kappa"),
        (Geometric, {"kappa": "2.5"}, "kappa"),
        (Geometric, {"kappa": math.inf}, "kappa"),
        (Geometric, {"interval": 0}, "interval"),
        (Geometric, {"interval": 1.5}, "interval"),
        (Geometric, {"interval": "often"}, "interval"),
        (Geometric, {"smoothing": 0}, "smoothing"),
        (Geometric, {"min_rate": 0.0}, "min_rate"),
        (Geometric, {"max_rate": -1.0}, "max_rate"),
        (Geometric, {"max_rate": 0.0}, "max_rate"),
        (Geometric, {"min_rate": 2.0, "max_rate": 1.0}, "max_rate"),
        (Geometric, {"cooldown": 1.5, "total_steps": 100}, "cooldown"),
        (Geometric, {"cooldown": -0.1, "total_steps": 100}, "cooldown"),
        (Geometric, {"cooldown": 0.2}, "total_steps"),
        (Geometric, {"total_steps": 0}, "total_steps"),
        (Geometric, {"cooldown_kappa": 2.0}, "cooldown_kappa"),
        (Geometric, {"cooldown_kappa": 0.0}, "cooldown_kappa"),
        (Alignment, {"target": -1.5}, "target"),
        (Alignment, {"target": "edge"}, "target"),
        (Alignment, {"gain": 0.0}, "gain"),
        (Alignment, {"gain": "strong"}, "gain"),
        (Alignment, {"min_rate": "low"}, "min_rate"),
        (Alignment, {"min_rate": 2.0, "max_rate": 1.0}, "max_rate"),
    ],
)
def test_settings_that_are_refused(build: type[Schedule], settings: dict[str, object], key: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        build(**settings)
    assert caught.value.key == key
    assert caught.value.value == settings.get(key) or math.isnan(settings[key])  # type: ignore[arg-type]
