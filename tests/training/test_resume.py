"""A run that was cut and goes on from its checkpoint equals the one that was not, bit for bit."""

from __future__ import annotations

import math
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import eoc.training.run as run_room
from eoc.errors import InvalidInput
from eoc.tracking.run_folder import CHECKPOINT, METRICS, SETTINGS, SUMMARY
from eoc.training.callbacks import CurvatureCallback
from eoc.training.random_state import random_state, restore_random_state
from support import NO_FIGURE, Crash, Run, crash_at, trained

RUN = (
    NO_FIGURE,
    "trainer.max_steps=12",
    "callbacks.evaluation.every=5",
    "callbacks.features.every=2",
    "callbacks.curvature.top_every=6",
)
STOCHASTIC = ["dataset.batch_size=13", "optimizer=momentum"]
CASES = {
    "constant": ["schedule=constant", "schedule.rate=1.9", "loss=cross_entropy"],
    "warmup": ["schedule=warmup", "schedule.warmup_steps=9", *STOCHASTIC],
    "cosine": ["schedule=cosine", "schedule.warmup_steps=2", "optimizer=momentum"],
    "geometric": ["schedule.interval=3", "schedule.smoothing=2", "schedule.cooldown=0.4"],
    "geometric, stochastic": ["schedule.interval=3", "schedule.smoothing=2", *STOCHASTIC],
    "critical": ["schedule.source=critical", "schedule.kappa=0.5", "schedule.interval=3"],
    "alignment": ["schedule=alignment", "schedule.gain=0.2", "trainer.precision=64-true"],
    "alignment, stochastic": ["schedule=alignment", "schedule.gain=0.2", *STOCHASTIC],
}


def same(first: Any, second: Any) -> bool:
    """Equality with NaN equal to itself."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    both_nan = isinstance(first, float) and isinstance(second, float) and math.isnan(first) and math.isnan(second)
    return both_nan or first == second


def timeless(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not name.endswith("milliseconds")}


def assert_equal(run: Run, whole: Run) -> None:
    assert whole.columns["step"] == list(range(13))
    columns, expected = timeless(run.columns), timeless(whole.columns)
    assert columns.keys() == expected.keys()
    for name in expected:
        assert same(columns[name], expected[name]), name
    for weight, other in zip(run.path[-1], whole.path[-1], strict=True):
        assert torch.equal(weight, other)
    for key in ("status", "steps", "best", "measured_at", "unconverged_probes"):
        assert run.summary[key] == whole.summary[key], key
    assert timeless(run.summary["final"]) == timeless(whole.summary["final"])


def written_steps(folder: Path) -> list[int]:
    """The steps of the rows as they lie in the file, before a reader sorts them."""
    lines = (folder / METRICS).read_text().splitlines()
    return [int(line.split(",")[lines[0].split(",").index("step")]) for line in lines[1:]]


def crashed(folder: Path, step: int, *overrides: str) -> Path:
    """Run until ``step`` has its row and then crash; return the checkpoint that is left."""
    with pytest.raises(Crash):
        trained(folder, *overrides, then=crash_at(step))
    assert not (folder / SUMMARY).exists()
    assert max(written_steps(folder)) == step
    return folder / CHECKPOINT


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES)
def test_a_continued_run_equals_the_uninterrupted_one(overrides: list[str], tmp_path: Path) -> None:
    overrides = [*RUN, *overrides, "callbacks.checkpoint.every=7"]
    whole = trained(tmp_path / "whole", *overrides)
    checkpoint = crashed(tmp_path / "crashed", 9, *overrides)  # rows 7, 8, 9 lie beyond the checkpoint

    elsewhere = trained(tmp_path / "elsewhere", *overrides, ckpt_path=checkpoint)
    assert len(elsewhere.path) == 6  # θ_7 … θ_12
    assert_equal(elsewhere, whole)
    assert written_steps(tmp_path / "elsewhere") == list(range(13))

    assert_equal(trained(tmp_path / "crashed", *overrides, ckpt_path=checkpoint), whole)
    assert written_steps(tmp_path / "crashed") == list(range(13))


@pytest.mark.parametrize("cut", [1, 6, 11])
def test_a_run_may_be_cut_anywhere(cut: int, tmp_path: Path) -> None:
    overrides = [
        *RUN,
        "schedule.interval=3",
        "schedule.smoothing=2",
        "callbacks.update_cosines.every=3",
        "callbacks.curvature.every=2",
        "callbacks.checkpoint.every=1",
    ]
    whole = trained(tmp_path / "whole", *overrides)
    checkpoint = crashed(tmp_path / "cut", cut, *overrides)
    assert_equal(trained(tmp_path / "cut", *overrides, ckpt_path=checkpoint), whole)


def test_what_was_last_known_before_the_cut_is_in_the_summary(tmp_path: Path) -> None:
    # λ and the cosines are measured at step 0 alone, and not again in what remains.
    overrides = [
        *RUN,
        "schedule=constant",
        "~callbacks.curvature",
        "callbacks.update_cosines.every=20",
        "callbacks.checkpoint.every=7",
    ]
    overrides.remove("callbacks.curvature.top_every=6")
    whole = trained(tmp_path / "whole", *overrides)
    assert whole.summary["final"]["lr_x_sharpness"] == pytest.approx(1.0)
    checkpoint = crashed(tmp_path / "cut", 9, *overrides)
    assert_equal(trained(tmp_path / "cut", *overrides, ckpt_path=checkpoint), whole)


def test_a_finished_run_goes_on_as_a_longer_one(tmp_path: Path) -> None:
    overrides = [*RUN, "schedule=constant", "callbacks.features.every=1"]
    whole = trained(tmp_path / "whole", *overrides)
    short = trained(tmp_path / "short", *overrides, "trainer.max_steps=5")
    assert short.summary["steps"] == 5
    longer = trained(tmp_path / "longer", *overrides, ckpt_path=tmp_path / "short" / CHECKPOINT)
    assert_equal(longer, whole)
    assert written_steps(tmp_path / "longer") == list(range(13))
    assert written_steps(tmp_path / "short") == list(range(6))  # the shorter one is left as it was


def test_features_are_not_compared_with_those_of_other_examples(tmp_path: Path) -> None:
    trained(tmp_path / "short", *RUN, "schedule=constant", "trainer.max_steps=5")
    checkpoint = tmp_path / "short" / CHECKPOINT
    with pytest.raises(InvalidInput, match=r"features of other training examples; .* remove .*~callbacks\.features"):
        trained(tmp_path / "other", *RUN, "schedule=constant", "dataset.n_test=41", ckpt_path=checkpoint)
    without = [*RUN, "schedule=constant", "dataset.n_test=41", "~callbacks.features"]
    trained(tmp_path / "less", *without, ckpt_path=checkpoint)


def test_the_examples_of_the_probe_may_change(tmp_path: Path) -> None:
    # So do the coordinates of their span, and what was remembered in them means nothing any more.
    trained(tmp_path / "short", *RUN, "curvature.examples=20", "trainer.max_steps=5")
    checkpoint = tmp_path / "short" / CHECKPOINT
    run = trained(tmp_path / "other", *RUN, "curvature.examples=25", ckpt_path=checkpoint)
    operator = run.module.make_probe(k=1).operator(run.module)
    largest = torch.linalg.eigvalsh(operator(torch.eye(operator.size)).double())[-1]
    assert run.columns["sharpness"][-1] == pytest.approx(largest.item(), rel=1e-3)
    assert 0 not in run.columns["hessian/converged"]


def test_lightnings_own_checkpoints_can_be_kept_too(tmp_path: Path) -> None:
    own = "+callbacks.mine={_target_: pytorch_lightning.callbacks.ModelCheckpoint, every_n_train_steps: 4, dirpath: %s}"
    trained(tmp_path / "run", *RUN, "schedule=constant", own % (tmp_path / "new" / "folder"))
    assert list((tmp_path / "new" / "folder").glob("*.ckpt"))
    timed = "+callbacks.mine={_target_: pytorch_lightning.callbacks.ModelCheckpoint, train_time_interval: 1}"
    with pytest.raises(InvalidInput, match=r"callbacks\.mine\.train_time_interval=1 .* give every_n_train_steps"):
        trained(tmp_path / "timed", *RUN, "schedule=constant", timed)


def test_a_checkpoint_that_counts_its_steps_as_older_versions_did(tmp_path: Path) -> None:
    overrides = [*RUN, "callbacks.checkpoint.every=7"]
    whole = trained(tmp_path / "whole", *overrides)
    checkpoint = crashed(tmp_path / "cut", 9, *overrides)
    content = torch.load(checkpoint, weights_only=True)
    loop = content["loops"]["fit_loop"]
    taken = {"total": {"ready": 7, "completed": 7}, "current": {"ready": 7, "completed": 7}}
    assert loop["epoch_loop.manual_optimization.optim_step_progress"] == taken
    none = {"total": {"ready": 0, "completed": 0}, "current": {"ready": 0, "completed": 0}}
    loop["epoch_loop.manual_optimization.optim_step_progress"] = none
    loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"] = taken
    torch.save(content, checkpoint)
    assert_equal(trained(tmp_path / "cut", *overrides, ckpt_path=checkpoint), whole)


def test_what_fails_once_a_run_goes_on_is_not_the_checkpoints_fault(tmp_path: Path) -> None:
    checkpoint = crashed(tmp_path / "run", 9, *RUN, "callbacks.checkpoint.every=7")

    def bug(module: Any, step: int) -> None:  # noqa: ARG001
        if step == 9:
            raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        trained(tmp_path / "run", *RUN, ckpt_path=checkpoint, then=bug)


def test_the_seed_begins_all_random_states(tmp_path: Path) -> None:
    """Nothing here draws from numpy's or Python's, a user's callback may."""
    drawn = []
    for folder, seed in (("one", 1), ("two", 1), ("three", 2)):
        trained(tmp_path / folder, f"seed={seed}", "callbacks=none")
        drawn.append((torch.rand(1).item(), float(np.random.rand()), random.random()))  # noqa: NPY002
    assert drawn[0] == drawn[1]
    assert not any(one == other for one, other in zip(drawn[0], drawn[2], strict=True))


def test_precision_that_changed_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = trained(tmp_path / "first", "trainer.max_steps=4")
    checkpoint = first.folder / CHECKPOINT
    trained(tmp_path / "second", ckpt_path=checkpoint)
    assert "trainer.precision" not in capsys.readouterr().out
    trained(tmp_path / "third", "trainer.precision=64-true", ckpt_path=checkpoint)
    assert "changed since: trainer.precision: 32-true → 64-true" in capsys.readouterr().out
    content = torch.load(checkpoint, weights_only=True)
    del content["eoc"]["settings"]["trainer"]  # as older checkpoints have none
    torch.save(content, checkpoint)
    trained(tmp_path / "fourth", ckpt_path=checkpoint)
    assert "trainer.precision" not in capsys.readouterr().out


def test_the_random_states_come_back(tmp_path: Path) -> None:
    def drawing(drawn: dict[int, Any], stop: int = -1) -> Any:
        """Draw behind every step, as a user's callback may."""

        def then(module: Any, step: int) -> None:  # noqa: ARG001
            if step == stop:
                raise Crash
            drawn[step] = (torch.rand(()).item(), float(np.random.rand()))  # noqa: NPY002

        return then

    overrides = [*RUN, "callbacks.checkpoint.every=7"]
    whole: dict[int, Any] = {}
    trained(tmp_path / "whole", *overrides, then=drawing(whole))
    cut: dict[int, Any] = {}
    with pytest.raises(Crash):
        trained(tmp_path / "cut", *overrides, then=drawing(cut, stop=8))
    np.random.seed(12)  # noqa: NPY002
    trained(tmp_path / "cut", *overrides, ckpt_path=tmp_path / "cut" / CHECKPOINT, then=drawing(cut))
    assert list(cut.values()) == list(whole.values())


def test_pythons_random_numbers_are_kept_too() -> None:
    before = random_state()
    drawn = random.random(), torch.rand(()).item(), float(np.random.rand()), float(np.random.randn())  # noqa: NPY002
    restore_random_state(before)
    again = random.random(), torch.rand(()).item(), float(np.random.rand()), float(np.random.randn())  # noqa: NPY002
    assert again == drawn


def test_a_torn_row_is_left_behind(tmp_path: Path) -> None:
    overrides = [*RUN, "callbacks.checkpoint.every=7"]
    whole = trained(tmp_path / "whole", *overrides)
    checkpoint = crashed(tmp_path / "cut", 9, *overrides)
    with (tmp_path / "cut" / METRICS).open("a") as file:
        file.write("1")  # of "10,…"
    assert_equal(trained(tmp_path / "cut", *overrides, ckpt_path=checkpoint), whole)


STEADY = (NO_FIGURE, "callbacks.checkpoint.every=4", "schedule=constant")
SEARCH = (NO_FIGURE, "hydra/sweeper=best_rate", "hydra.mode=MULTIRUN", "schedule=constant")


def test_a_run_does_not_go_on_from_another_runs_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Crash):
        trained(folder, *STEADY, "seed=0", then=crash_at(6))  # leaves a checkpoint of step 4
    with pytest.raises(Crash):
        trained(folder, *STEADY, "seed=1", then=crash_at(1))  # leaves none of its own
    run, whole = trained(folder, *STEADY, "seed=1"), trained(tmp_path / "whole", *STEADY, "seed=1")
    assert run.columns["step"] == list(range(9))
    assert all(torch.equal(one, other) for one, other in zip(run.path[-1], whole.path[-1], strict=True))


@pytest.mark.parametrize(("before", "after"), [(0.9, 0.0), (0.0, 0.9)])
def test_a_run_goes_on_with_its_own_momentum(before: float, after: float, tmp_path: Path) -> None:
    settings = [
        *STEADY,
        "optimizer=momentum",
        "schedule.unit=absolute",
        "schedule.rate=0.2",
        "trainer.precision=64-true",
    ]
    first = trained(tmp_path / "first", *settings, f"optimizer.momentum={before}")
    further = [*settings, "trainer.max_steps=10", f"optimizer.momentum={after}"]
    run = trained(tmp_path / "run", *further, ckpt_path=first.folder / CHECKPOINT)
    network, data = run.module.network, run.module.dataset
    start, one, two = run.path
    weights = [weight.clone().requires_grad_() for weight in one]
    loss = run.module.loss(network.preactivations(data.train_inputs, weights)[-1], data.train_targets)
    for a, b, c, rate, gradient in zip(start, one, two, network.rates, torch.autograd.grad(loss, weights), strict=True):
        torch.testing.assert_close(c - b + 0.2 * rate * gradient, after * (b - a), rtol=1e-9, atol=1e-12)


def test_checkpoints_that_are_kept_elsewhere_are_found_and_lose_no_rows(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "run", [*STEADY, f"paths.checkpoints={tmp_path / 'kept'}"]
    whole = trained(tmp_path / "whole", *STEADY)
    with pytest.raises(Crash):
        trained(folder, *elsewhere, then=crash_at(6))
    run = trained(folder, *elsewhere)
    assert len(run.path) == 5  # θ_4 to θ_8
    assert run.columns["step"] == list(range(9))
    further = [*elsewhere, "trainer.max_steps=10"]
    other = trained(tmp_path / "other", *further, ckpt_path=tmp_path / "kept" / "last.ckpt")
    assert other.columns["step"] == list(range(11))
    assert other.columns["train/loss"][:8] == whole.columns["train/loss"][:8]


def test_a_checkpoint_of_another_run_in_a_folder_for_all_is_not_gone_on_from(tmp_path: Path) -> None:
    elsewhere = [*STEADY, f"paths.checkpoints={tmp_path / 'kept'}"]
    with pytest.raises(Crash):
        trained(tmp_path / "one", *elsewhere, "seed=1", then=crash_at(1))
    with pytest.raises(Crash):
        trained(tmp_path / "other", *elsewhere, "seed=0", then=crash_at(6))  # leaves a checkpoint of step 4
    run, whole = trained(tmp_path / "one", *elsewhere, "seed=1"), trained(tmp_path / "whole", *STEADY, "seed=1")
    assert run.columns["step"] == list(range(9))
    assert all(torch.equal(one, other) for one, other in zip(run.path[-1], whole.path[-1], strict=True))


def test_a_refused_second_run_leaves_a_bare_first_one_its_settings(tmp_path: Path) -> None:
    bare = ["callbacks=none", "schedule=constant", "~logger.csv"]
    folder = trained(tmp_path / "run", *bare).folder
    settings = (folder / SETTINGS).read_bytes()
    with pytest.raises(InvalidInput, match="it holds a finished run"):
        trained(tmp_path / "run", *bare)
    assert (folder / SETTINGS).read_bytes() == settings
    (folder / SUMMARY).unlink()  # as if it had been cut off
    with pytest.raises(InvalidInput, match="richness"):
        trained(tmp_path / "run", *bare, "model.richness=-1")
    assert (folder / SETTINGS).read_bytes() == settings


def test_a_metrics_file_without_its_beginning_says_so(tmp_path: Path) -> None:
    checkpoint = trained(tmp_path / "run", *STEADY).folder / CHECKPOINT
    (tmp_path / "run" / METRICS).unlink()
    with pytest.warns(UserWarning, match=r"holds no metrics\.csv: that of this run begins at step 8"):
        run = trained(tmp_path / "other", *STEADY, "trainer.max_steps=9", ckpt_path=checkpoint)
    assert run.columns["step"] == [8, 9]


def test_a_result_that_came_while_a_job_waited_for_its_folder_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "run", *STEADY)
    summary = (whole.folder / SUMMARY).read_bytes()
    (whole.folder / SUMMARY).unlink()

    @contextmanager
    def waited(folder: Path, patience: float) -> Iterator[None]:  # noqa: ARG001
        (folder / SUMMARY).write_bytes(summary)  # the other process ends
        yield

    monkeypatch.setattr("eoc.training.run.claimed", waited)
    monkeypatch.setattr("eoc.training.run.in_sweep", lambda: True)
    rows = (whole.folder / METRICS).read_bytes()
    assert trained(tmp_path / "run", *STEADY).value == whole.value
    assert (whole.folder / METRICS).read_bytes() == rows
    assert (whole.folder / SUMMARY).read_bytes() == summary


def test_a_refused_command_takes_nothing_from_the_run_that_was_cut_off_there(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Crash):
        trained(folder, *STEADY, then=crash_at(6))
    for wrong in (
        ["model.richness=-1"],
        ["curvature.max_products=3"],  # refused with all callbacks in place
        ["curvature.examples=61"],  # where the data are known
        ["curvature.scout=bfloat16", "trainer.precision=64-true"],
        ["curvature.autocast=bfloat16", "curvature.tolerance=1e-2", "trainer.precision=64-true"],
    ):
        with pytest.raises(InvalidInput, match=wrong[0].partition("=")[0]):
            trained(folder, *STEADY, *wrong)
    assert len(trained(folder, *STEADY).path) == 5  # θ_4 to θ_8


def test_a_checkpoint_that_lightning_left_on_slurm_is_not_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Crash):
        trained(tmp_path / "other", *STEADY, "seed=1", then=crash_at(6))
    expected = trained(tmp_path / "expected", *STEADY).path
    (tmp_path / "run").mkdir()
    for folder in (tmp_path, tmp_path / "run"):
        (folder / "hpc_ckpt_1.ckpt").write_bytes((tmp_path / "other" / CHECKPOINT).read_bytes())  # Lightning's name
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGUSR1)
    for name, value in {"NTASKS": 1, "JOB_NAME": "job", "JOB_ID": 7, "PROCID": 0, "LOCALID": 0, "NODEID": 0}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    seen = []
    path = trained(tmp_path / "run", *STEADY, then=lambda *_: seen.append(signal.getsignal(signal.SIGUSR1))).path
    assert set(seen) == {before}  # it would write such a checkpoint and requeue the job
    assert len(path) == 9
    assert all(torch.equal(a, b) for a, b in zip(path[-1], expected[-1], strict=True))


def test_rows_kept_elsewhere_are_there_when_the_run_goes_on(tmp_path: Path) -> None:
    kept = (*STEADY, f"logger.csv.folder={tmp_path / 'rows'}")
    with pytest.raises(Crash):
        trained(tmp_path / "run", *kept, then=crash_at(6))
    assert len(trained(tmp_path / "run", *kept).path) == 5  # θ_4 to θ_8
    assert written_steps(tmp_path / "rows") == list(range(9))


def test_rows_of_a_folder_that_was_moved_are_there_when_the_run_goes_on(tmp_path: Path) -> None:
    flat = (*STEADY, "paths.checkpoints=${paths.run}")
    with pytest.raises(Crash):
        trained(tmp_path / "run", *flat, then=crash_at(6))
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    assert len(trained(moved, *flat).path) == 5  # θ_4 to θ_8
    assert written_steps(moved) == list(range(9))


def test_rows_kept_elsewhere_are_there_when_a_run_is_extended(tmp_path: Path) -> None:
    kept = (*STEADY, f"logger.csv.folder={tmp_path / 'rows'}")
    trained(tmp_path / "a", *kept)
    trained(tmp_path / "b", *kept, "trainer.max_steps=12", ckpt_path=tmp_path / "a" / CHECKPOINT)
    assert written_steps(tmp_path / "rows") == list(range(13))


def test_another_runs_rows_are_not_taken_for_ones_own(tmp_path: Path) -> None:
    other = f"logger.csv.folder={tmp_path / 'other'}"
    trained(tmp_path / "one", *STEADY, "seed=1", other)
    before = (tmp_path / "other" / METRICS).read_bytes()
    with pytest.raises(Crash):
        trained(tmp_path / "run", *STEADY, then=crash_at(6))
    for wrong in ("run", "new"):  # one that would go on, and one that begins
        with pytest.raises(
            InvalidInput, match=r"^logger\.csv\.folder=.*other is not possible: the rows of another run"
        ):
            trained(tmp_path / wrong, *STEADY, other)
    assert (tmp_path / "other" / METRICS).read_bytes() == before
    trained(tmp_path / "run", *STEADY, f"logger.csv.folder={tmp_path / 'empty'}")
    assert written_steps(tmp_path / "empty") == list(range(9))


def test_rows_of_a_finished_run_are_not_run_over(tmp_path: Path) -> None:
    trained(tmp_path / "one", *STEADY)
    before = (tmp_path / "one" / METRICS).read_bytes()
    with pytest.raises(InvalidInput, match=r"^logger\.csv\.folder=.*one is .*: the rows of another run lie there"):
        trained(tmp_path / "other", *STEADY, f"logger.csv.folder={tmp_path / 'one'}")
    assert (tmp_path / "one" / METRICS).read_bytes() == before


@pytest.mark.parametrize("every", [4, 100])
def test_a_run_that_is_cut_off_while_the_final_weights_are_measured_goes_on(
    every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (NO_FIGURE, "schedule=constant", f"callbacks.checkpoint.every={every}")
    whole = trained(tmp_path / "whole", *settings)

    def crash(*args: Any) -> None:  # noqa: ARG001
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(CurvatureCallback, "at_end", crash)
        with pytest.raises(Crash):
            trained(tmp_path / "run", *settings)
    run = trained(tmp_path / "run", *settings)
    assert len(run.path) == (5 if every == 4 else 9)  # from θ_4, or from the start
    assert written_steps(tmp_path / "run") == list(range(9))
    assert all(torch.equal(a, b) for a, b in zip(run.path[-1], whole.path[-1], strict=True))
    assert torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)["global_step"] == 8


def test_what_a_kill_left_of_a_checkpoint_is_not_taken_for_one(tmp_path: Path) -> None:
    partial = (tmp_path / "run" / CHECKPOINT).with_suffix(".part")
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"torn")
    run = trained(tmp_path / "run", *STEADY, "schedule.unit=absolute", "schedule.rate=1e6")
    assert run.summary["status"] == "diverged"
    assert not (tmp_path / "run" / CHECKPOINT).exists()


@pytest.mark.parametrize("damage", ["empty", "half", "other"])
def test_a_damaged_checkpoint_is_named_and_the_run_starts_anew(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    checkpoint = folder / CHECKPOINT
    with pytest.raises(Crash):
        trained(folder, *STEADY, then=crash_at(6))
    whole = checkpoint.read_bytes()
    if damage == "other":
        torch.save({"weights": torch.zeros(3)}, checkpoint)
    else:
        checkpoint.write_bytes(whole[: len(whole) // 2] if damage == "half" else b"")
    capsys.readouterr()
    run = trained(folder, *STEADY)
    assert f"{checkpoint} is damaged: the run starts anew\n" in capsys.readouterr().out
    assert len(run.path) == 9  # θ_0 to θ_8
    assert written_steps(folder) == list(range(9))
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 8


def test_a_run_may_go_on_in_its_own_folder_with_other_settings(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Crash):
        trained(folder, *STEADY, then=crash_at(6))
    further = trained(folder, *STEADY, "trainer.max_steps=10", ckpt_path=folder / CHECKPOINT)
    assert further.columns["step"] == list(range(11))
    assert len(further.path) == 7  # θ_4 to θ_10


@pytest.mark.filterwarnings("ignore:.*not known to curvature.tolerance")
def test_the_first_loss_and_the_count_of_loose_probes_come_back(tmp_path: Path) -> None:
    # A loss bound refers to the loss at θ_0, and what was counted before the cut counts in the end.
    loose = [*STEADY, "curvature.max_products=6", "curvature.tolerance=1e-5"]
    whole = trained(tmp_path / "whole", *loose)
    with pytest.raises(Crash):
        trained(tmp_path / "run", *loose, then=crash_at(6))
    run = trained(tmp_path / "run", *loose)
    assert run.summary["unconverged_probes"] == whole.summary["unconverged_probes"] > 4
    state = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)["callbacks"]
    firsts = [value["first"] for name, value in state.items() if "Divergence" in name]
    assert firsts == pytest.approx([whole.columns["train/loss"][0]])


@pytest.mark.parametrize("key", ["logger.csv.folder", "callbacks.checkpoint.folder"])
def test_in_a_search_no_job_keeps_its_own_elsewhere(tmp_path, key):
    with pytest.raises(InvalidInput, match=rf"^{key}=.*: in a search each job keeps its own"):
        trained(tmp_path / "run", *SEARCH, f"{key}={tmp_path / 'one'}")


@pytest.mark.parametrize(("tasks", "expected"), [("1", math.inf), ("2", run_room.PATIENCE)])
def test_a_job_of_a_search_waits_for_its_twin_unless_it_has_several_processes(tmp_path, monkeypatch, tasks, expected):
    def claimed(folder: Path, patience: float) -> None:  # noqa: ARG001
        raise Crash(patience)

    monkeypatch.setattr(run_room, "claimed", claimed)
    monkeypatch.setenv("SLURM_NTASKS", tasks)
    with pytest.raises(Crash) as caught:
        trained(tmp_path / "run", *SEARCH)
    assert caught.value.args == (expected,)


def test_a_run_cut_off_before_its_first_checkpoint_takes_its_rows_elsewhere_back(tmp_path):
    kept = (*STEADY, f"logger.csv.folder={tmp_path / 'rows'}")
    with pytest.raises(Crash):
        trained(tmp_path / "run", *kept, then=crash_at(1))
    assert len(trained(tmp_path / "run", *kept).path) == 9
    assert written_steps(tmp_path / "rows") == list(range(9))


def test_rows_of_other_settings_in_the_same_folder_are_not_run_over(tmp_path):
    kept = (*STEADY, f"logger.csv.folder={tmp_path / 'rows'}")
    with pytest.raises(Crash):
        trained(tmp_path / "run", *kept, "seed=1", then=crash_at(1))
    with pytest.raises(InvalidInput, match="the rows of another run lie there"):
        trained(tmp_path / "run", *kept)


def test_a_branch_takes_the_rows_of_where_it_starts_and_not_what_lay_in_its_folder(tmp_path):
    trained(tmp_path / "a", *STEADY)
    with pytest.raises(Crash):
        trained(tmp_path / "b", *STEADY, "seed=1", then=crash_at(2))
    longer = trained(tmp_path / "b", *STEADY, "trainer.max_steps=12", ckpt_path=tmp_path / "a" / CHECKPOINT)
    assert longer.columns["step"] == list(range(13))
    first = [(tmp_path / each / METRICS).read_text().splitlines()[1] for each in "ab"]
    assert first[0] == first[1]


def test_a_copy_without_rows_takes_those_of_its_original(tmp_path):
    with pytest.raises(Crash):
        trained(tmp_path / "run", *STEADY, "paths.checkpoints=${paths.run}", then=crash_at(6))
    shutil.copytree(tmp_path / "run", tmp_path / "copy", ignore=shutil.ignore_patterns(METRICS))
    trained(tmp_path / "copy", *STEADY, "paths.checkpoints=${paths.run}")
    assert written_steps(tmp_path / "copy") == list(range(9))
