"""Each experiment's criteria on cells made by hand: they hold where they should, and fail where they should."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from eoc.analysis.claims import (
    catapult,
    concentration,
    coordinate_check,
    cosines,
    depth_curvature,
    kappa_transfer,
    lr_transfer,
)
from eoc.analysis.claims import geometric_schedule as geometric
from eoc.analysis.claims.base import FAILS, HOLDS, PARTLY, UNDECIDED, UNKNOWN, Estimate
from eoc.analysis.claims.reading import History, final_loss

EXPERIMENTS = Path(__file__).parents[3] / "conf" / "experiment"

SETTING = {"model.width": 8, "model.growth": 2.0, "model.richness": 1.0, "model.activation": "relu"}
DEPTHS = (3, 5, 9, 17)


def verdicts(claims) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in claims}


def grid(models, depths=DEPTHS, seeds=range(8), **columns) -> pd.DataFrame:
    rows = [
        {**SETTING, "model": model, "model.depth": depth, "seed": seed, "status": "completed", **columns}
        for model in models
        for depth in depths
        for seed in seeds
    ]
    return pd.DataFrame(rows)


def test_depth_curvature_judges_exponents_and_spread():
    models = ["nup", "nup_growth_0", "nup_growth_3", "mup", "ntp", "mup_inverse_depth"]
    cells = grid(models, seeds=range(60))
    exponent = cells["model"].map({"mup": 1.0, "ntp": 1.0, "nup_growth_3": 0.4}).fillna(0.0)
    noise = np.random.default_rng(0).normal(0, 0.02, len(cells))
    noise *= np.where(cells["model"] == "nup_growth_0", cells["model.depth"] / 3, 1.0)
    cells["sharpness"] = cells["model.depth"] ** exponent * np.exp(noise)
    assert set(verdicts(depth_curvature.claims(cells)).values()) == {HOLDS}
    cells["sharpness"] *= cells["model.depth"]
    found = verdicts(depth_curvature.claims(cells))
    assert found["nup_flat_relu"] == found["mup_inverse_depth_flat"] == FAILS
    assert found["nup_spread"] == HOLDS  # a factor common to all seeds is no spread
    assert len(depth_curvature.figure(cells).axes) == 3
    for few in (cells[cells["seed"] == 0], cells[cells["model.depth"] == 9]):
        assert verdicts(depth_curvature.claims(few))["nup_spread"] == UNKNOWN


def test_of_several_widths_the_middle_one_is_judged_and_the_others_are_remarked_on():
    cells = pd.concat([grid(["ntp", "nup_growth_0"]).assign(**{"model.width": width}) for width in (128, 32, 64)])
    cells["sharpness"] = cells["model.depth"] ** (cells["model.width"] / 64.0) * (1 + 0.1 * cells["seed"])
    short = cells[(cells["model.width"] != 32) | (cells["model.depth"] < 17)]
    found = {claim.name: claim for claim in depth_curvature.claims(short)}
    assert found["ntp_grows"].measured.value == pytest.approx(2.0)  # of 64 and 128, which go as deep
    found = {claim.name: claim for claim in depth_curvature.claims(cells)}
    assert found["ntp_grows"].measured.value == pytest.approx(1.0)
    remark = found["nup_growth_0_spread"].remark
    said = [part.partition(": ")[0] for part in remark.split("; ")]
    assert said == [f"m = {width}, depths 3 to 17" for width in (64, 32, 128)]


def test_widths_that_grow_faster_are_held_against_the_usual_ones_seed_by_seed():
    usual, faster = grid(["nup"]), grid(["nup_growth_3"], depths=(3, 5, 9))
    usual["sharpness"] = usual["model.depth"] ** (0.2 + 0.05 * usual["seed"])
    faster["sharpness"] = faster["model.depth"] ** (0.5 + 0.05 * faster["seed"])
    both = pd.concat([usual, faster, usual.assign(**{"model.width": 99, "sharpness": 1.0})])
    found = {claim.name: claim for claim in depth_curvature.claims(both)}["growth_3_grows"]
    assert (found.measured.value, found.measured.low) == (pytest.approx(0.3), pytest.approx(0.3))
    assert found.verdict == HOLDS
    assert found.remark.startswith("m = 8, depths 3 to 9; its own exponent 0.675 [")
    assert verdicts(depth_curvature.claims(faster))["growth_3_grows"] == UNKNOWN


def test_an_activation_of_ones_own_is_judged_like_the_named_ones():
    cells = grid(["nup"], sharpness=1.0).assign(**{"model.activation": "(0.3, 0.6)"})
    cells["sharpness"] = cells["model.depth"] ** 1.0
    assert verdicts(depth_curvature.claims(cells))["nup_flat_(0.3, 0.6)"] == FAILS
    assert depth_curvature.claims(cells)[0].remark.startswith("m = ")
    others = depth_curvature.claims(cells.assign(model="mup"))
    assert (others[0].verdict, others[0].remark[:10]) == (UNKNOWN, "the theory")


def coordinates(model: str, depth_power: float, profile: float) -> pd.DataFrame:
    cells = grid([model]).assign(profile=profile, unevenness=1.2)
    noise = np.exp(np.random.default_rng(0).normal(0, 0.01, len(cells)))
    cells["preactivations"] = cells["model.depth"] ** depth_power * noise
    cells["output"] = cells["preactivations"]
    wide = cells.assign(**{"model.width": 16})
    return pd.concat([cells.assign(**{"model.width": 4}), cells, wide], ignore_index=True)


def test_coordinate_check_passes_what_does_not_move():
    parts = [coordinates("nup", 0.0, -1.0), coordinates("mup", 1.0, 0.0), coordinates("nup_growth_0", 0.0, 0.0)]
    cells = pd.concat(parts, ignore_index=True)
    found = verdicts(coordinate_check.claims(cells))
    assert found.pop("nup_preactivations") == FAILS  # Σ 1/k grows from 3 layers to 17 with an exponent of 0.5
    assert set(found.values()) == {HOLDS}
    assert verdicts(coordinate_check.claims(coordinates("nup", 0.5, -1.0)))["nup_preactivations"] == HOLDS
    checks = coordinate_check.checks(cells).set_index("model")
    assert checks["passes"].to_dict() == {"nup": True, "mup": False, "nup_growth_0": True}
    assert checks.loc["mup", "output, depth"] == pytest.approx(1.0, abs=0.05)
    assert checks.loc["mup", "output, width"] == pytest.approx(0.0, abs=1e-9)


def test_concentration():
    parts = []
    for growth, power in ((0.0, 1.0), (2.0, 0.0)):
        for activation, factor in (("relu", 1.0), ("abs", 0.5)):
            part = grid(["ntp"]).assign(**{"model.growth": growth, "model.activation": activation})
            part["deviation"] = factor * part["model.depth"] ** power * (1 + 0.01 * part["seed"])
            parts.append(part.assign(mean=1.0 + 0.01 * part["seed"]))
    cells = pd.concat(parts, ignore_index=True)
    assert set(verdicts(concentration.claims(cells)).values()) == {HOLDS}
    swapped = cells.assign(**{"model.growth": 2.0 - cells["model.growth"]})
    assert set(verdicts(concentration.claims(swapped)).values()) == {HOLDS, FAILS}
    found = verdicts(concentration.claims(cells[cells["model.depth"] == 9]))
    assert {said for name, said in found.items() if name.startswith("deviation_growth")} == {UNKNOWN}  # from 9 to 9


def rates(model: str, octaves: float, richness: float = 1.0, seeds: tuple[int, ...] = (0, 1)) -> pd.DataFrame:
    """Loss parabolas in log η whose vertex moves by ``octaves`` per doubling of depth, off the grid's points."""
    rows = []
    for depth in DEPTHS:
        for seed in seeds:
            for step in range(-12, 13):
                vertex = 0.2 + octaves * np.log2(depth / 3) + 0.02 * seed
                loss = 0.01 * np.exp(0.3 * (step / 2 - vertex) ** 2)
                row = {**SETTING, "model": model, "model.richness": richness, "model.depth": depth, "seed": seed}
                rows.append({**row, "status": "completed", "schedule.rate": 2.0 ** (step / 2), "loss": loss})
    return pd.DataFrame(rows)


def test_lr_transfer_finds_the_vertex_between_the_grids_points():
    best = lr_transfer.optima(rates("nup", -0.5))
    expected = 0.2 - 0.5 * np.log2(best["model.depth"] / 3) + 0.02 * best["seed"]
    np.testing.assert_allclose(np.log2(best["rate"]), expected, atol=1e-9)
    assert best["inside"].all()


def test_lr_transfer_judges_drift():
    cells = pd.concat([rates("nup", -0.6), rates("mup", -1.2), rates("nup_growth_1_5", 0.1)], ignore_index=True)
    found = {claim.name: claim for claim in lr_transfer.claims(cells)}
    assert found["nup_drift"].verdict == FAILS
    assert found["nup_drift"].measured.value == pytest.approx(-0.6)
    assert found["mup_drift"].verdict == found["nup_growth_1_5_drift"].verdict == HOLDS
    assert "νP, γ = 1.5" in found["flat_setting"].remark
    table = lr_transfer.drifts(cells).set_index("model")
    # tuned at depth 3, used at 17: exp(0.3·(0.6·log2(17/3))²), up to the grid's distance
    assert table.loc["nup", "price"] == pytest.approx(np.exp(0.3 * (0.6 * np.log2(17 / 3)) ** 2), rel=0.2)


def test_fresh_seeds_judge_the_setting_that_others_chose():
    chosen = [rates("nup", -0.6), rates("nup_growth_1", 0.1, 0.333)]
    for octaves, verdict in ((-0.1, HOLDS), (-0.8, FAILS)):
        cells = pd.concat([*chosen, rates("nup_growth_1", octaves, 0.333, seeds=(2, 3, 4))], ignore_index=True)
        found = {claim.name: claim for claim in lr_transfer.claims(cells)}
        assert found["third_drift"].verdict == found["third_price"].verdict == verdict
        assert found["third_drift"].measured.value == pytest.approx(octaves)
        vertices = 0.2 + octaves * np.log2(17 / 3) + 0.02 * np.array([2, 3, 4])  # at depth 17; at depth 3 near 0.26
        price = np.exp((0.3 * ((0.5 - vertices) ** 2 - (np.round(2 * vertices) / 2 - vertices) ** 2)).mean())
        assert found["third_price"].measured.value == pytest.approx(price)
        assert found["flat_setting"].measured.value == pytest.approx(0.1)  # the seeds that chose, and they alone
        table = lr_transfer.drifts(cells)
        assert table[["fresh", "seeds"]].to_numpy().tolist() == [[False, 2], [False, 2], [True, 3]]
    assert "third_drift" not in {claim.name for claim in lr_transfer.claims(pd.concat(chosen))}


def test_each_chosen_setting_is_judged_by_its_own_seeds():
    parts = [rates("nup", -0.6), rates("nup_growth_1", 0.1, 0.333)]
    parts += [rates("nup_growth_1", -0.4, 0.333, seeds=(2, 3)), rates("nup_growth_1", 0.2, 0.25, seeds=(10, 11, 12))]
    parts += [rates("nup_growth_1", -0.9, 0.25, seeds=(3,))]  # it would have had a part in the choice
    found = {claim.name: claim for claim in lr_transfer.claims(pd.concat(parts, ignore_index=True))}
    assert found["third_drift"].measured.value == pytest.approx(-0.4)
    assert found["quarter_drift"].measured.value == pytest.approx(0.2)
    assert "judged on 3 seeds" in found["quarter_drift"].remark
    assert found["third_steps"].measured.value == pytest.approx(-0.4)
    assert found["quarter_steps"].measured.value == pytest.approx(0.2)
    assert "richness 0.25" in found["quarter_steps"].claim
    assert found["quarter_price"].measured.value < found["third_price"].measured.value
    assert found["flat_setting"].measured.value == pytest.approx(0.1)


def test_a_rise_and_a_fall_of_the_best_rate_do_not_cancel():
    hump = rates("nup_growth_1", 0.0, 0.333, seeds=(2, 3, 4))
    middle = hump["model.depth"].isin((5, 9))
    hump.loc[middle, "schedule.rate"] *= 2.0
    found = {claim.name: claim for claim in lr_transfer.claims(pd.concat([rates("nup", -0.6), hump]))}
    assert abs(found["third_drift"].measured.value) < 0.1
    largest = found["third_steps"]
    assert largest.measured.value == pytest.approx(1 / np.log2(5 / 3))
    assert largest.verdict == FAILS
    assert [part.partition(": ")[0] for part in largest.remark.split("; ")] == ["3 to 5", "5 to 9", "9 to 17"]
    still = pd.concat([rates("nup", -0.6), rates("nup_growth_1", 0.1, 0.333, seeds=(2, 3, 4))])
    assert verdicts(lr_transfer.claims(still))["third_steps"] == HOLDS


def test_seeds_that_diverge_are_not_left_out_of_a_price():
    cells = pd.concat([rates("nup", -0.6), rates("nup_growth_1", 0.0, 0.333, seeds=(2, 3, 4))], ignore_index=True)
    cells.loc[(cells["seed"] == 3) & (cells["model.depth"] == 17) & (cells["schedule.rate"] > 1.0), "loss"] = np.inf
    found = {claim.name: claim for claim in lr_transfer.claims(pd.concat([cells, rates("nup_growth_1", 0.0, 0.333)]))}
    assert found["third_price"].measured.value == np.inf
    assert found["third_price"].verdict == FAILS
    assert found["third_price"].remark.endswith("1 of them diverge at that rate")


def test_a_best_rate_at_the_end_of_those_tried_is_no_flat_setting():
    edge = rates("nup_growth_1", 0.0)
    edge = edge[edge["schedule.rate"] <= 1.0]  # the vertex is at 2^0.2: the last one tried is the best at every depth
    cells = pd.concat([edge, rates("nup", -0.6)], ignore_index=True)
    found = {claim.name: claim for claim in lr_transfer.claims(cells)}
    assert found["flat_setting"].verdict == UNDECIDED  # the truth may lie beyond, and be as still
    assert "νP, γ = 1" in found["flat_setting"].remark
    moving = rates("nup_growth_1", -0.9)
    moving = moving[moving["schedule.rate"] >= 0.5]
    found = {claim.name: claim for claim in lr_transfer.claims(pd.concat([moving, rates("nup", -0.6)]))}
    assert found["flat_setting"].verdict == FAILS
    assert "νP, γ = 2" in found["flat_setting"].remark
    still = pd.concat([edge.assign(model="nup_growth_0"), rates("nup", -0.6)], ignore_index=True)
    assert verdicts(lr_transfer.claims(still))["nup_growth_0_drift"] == UNDECIDED
    course = lr_transfer.drifts(cells).set_index("model")["course"]
    assert course["nup_growth_1"].endswith("in some seeds an end of those tried at depth 3, 5, 9, 17")
    assert "an end" not in course["nup"]


def test_lr_transfer_judges_drift_over_width():
    narrow = rates("mup", 0.0)
    narrow = narrow[narrow["model.depth"] == 3].assign(**{"model.depth": 4, "model.width": 32})
    for octaves, verdict in ((0.1, HOLDS), (-0.6, FAILS)):
        wide = narrow.assign(**{"model.width": 64, "schedule.rate": narrow["schedule.rate"] * 2.0**octaves})
        found = lr_transfer.claims(pd.concat([narrow, wide, rates("mup", -1.2)], ignore_index=True))
        (drift,) = (claim for claim in found if claim.name == "mup_width_drift")
        assert drift.measured.value == pytest.approx(octaves)
        assert drift.verdict == verdict
        assert drift.remark == "widths 32, 64"


def test_kappa_transfer_judges_drift_and_price():
    parts = [rates("mup", 0.1, seeds=range(4)), rates("nup_growth_1", -0.8, seeds=range(4))]
    cells = pd.concat(parts, ignore_index=True).rename(columns={"schedule.rate": "schedule.kappa"})
    found = {claim.name: claim for claim in kappa_transfer.claims(cells)}
    assert set(found) == {"mup_drift", "mup_price", "nup_growth_1_drift", "nup_growth_1_price"}
    assert found["mup_drift"].measured.value == pytest.approx(0.1)
    assert found["mup_drift"].verdict == found["mup_price"].verdict == HOLDS
    assert found["nup_growth_1_drift"].measured.value == pytest.approx(-0.8)
    assert found["nup_growth_1_drift"].verdict == found["nup_growth_1_price"].verdict == FAILS
    vertices = 0.2 - 0.8 * np.log2(17 / 3) + 0.02 * np.arange(4)  # at depth 17; at depth 3 near 0.23
    price = np.exp((0.3 * ((0.0 - vertices) ** 2 - (np.round(2 * vertices) / 2 - vertices) ** 2)).mean())
    assert found["nup_growth_1_price"].measured.value == pytest.approx(price)
    best = 2 ** (0.2 + 0.03)  # the mean over seeds of the vertices
    assert found["mup_drift"].remark.startswith(f"best {best:.2g}, ")
    assert found["mup_drift"].remark.endswith("at depths 3, 5, 9, 17")
    assert len(kappa_transfer.figure(cells).axes) == 4
    assert "fresh" not in kappa_transfer.drifts(cells)


def test_a_best_kappa_at_the_end_of_those_tried_decides_nothing():
    cells = rates("mup", 0.0, seeds=range(4))
    cells = cells[cells["schedule.rate"] <= 1.0].rename(columns={"schedule.rate": "schedule.kappa"})
    found = {claim.name: claim for claim in kappa_transfer.claims(cells)}
    assert found["mup_drift"].measured.value == pytest.approx(0.0)
    assert found["mup_drift"].verdict == UNDECIDED


def test_a_diverged_run_is_never_the_best():
    cells = rates("nup", 0.0)
    cells.loc[cells["schedule.rate"] > 1.0, "loss"] = np.inf
    best = lr_transfer.optima(cells)
    assert (best["rate"] <= 1.0).all()
    assert np.isfinite(lr_transfer.drifts(cells)["drift"]).all()


def test_a_diverged_run_has_no_last_loss_however_finite(monkeypatch):
    runs = grid(["nup"], depths=(3,), seeds=range(2)).assign(path=["0", "1"], **{"schedule.rate": 1.0})
    runs["status"] = ["completed", "diverged"]
    monkeypatch.setattr("eoc.analysis.claims.reading.history", lambda path: {"train/loss": np.full(60, 0.25)})  # noqa: ARG005
    assert lr_transfer.cells(runs)["loss"].tolist() == [pytest.approx(0.25), np.inf]


def test_a_run_that_diverged_early_has_no_cosines_to_judge():
    short = {name: np.full(9, 0.5) for name in ("cosine/cumulative/all", "cosine/previous/all", "lr_x_sharpness")}
    short |= {name: np.ones(9) for name in ("update_norm/all", "distance/all", "train/loss", "test/accuracy")}
    long = {name: np.tile(values, 8) for name, values in short.items()} | {"features/kernel_change": np.ones(72)}
    assert cosines._measure(short) == {"phase": "diverged"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no layer's features were measured
        assert cosines._measure(long)["phase"] == "stable"


def test_a_network_that_died_is_in_no_phase_and_predicts_nothing():
    steps, moving = 300, np.arange(300) < 100  # then outputs, gradient and curvature are 0
    run = {name: np.where(moving, 0.5, np.nan) for name in ("cosine/cumulative/all", "cosine/previous/all")}
    run |= {"lr_x_sharpness": np.where(moving, 3.0, 0.0), "update_norm/all": moving.astype(float)}
    run |= {name: np.ones(steps) for name in ("distance/all", "train/loss", "test/accuracy", "features/kernel_change")}
    run["features/preactivation_change/layer_1"] = run["features/preactivation_change/layer_2"] = np.ones(steps)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = cosines._measure(run)
    assert measured["phase"] == "dead"
    assert np.isnan(measured["late_cosine"])
    living = grid(["nup", "mup"], schedule="constant").assign(late_product=1.0)
    living["schedule.rate"], living["schedule.kappa"] = 0.3, np.nan
    living = living.assign(phase="stable", **dict.fromkeys(("identity_error", "first_cosine", "late_cosine"), 0.5))
    living["late_previous"], living["kernel_change"] = 0.5, np.linspace(0, 1, len(living))
    living["early_cosine"] = living["early_distance"] = living["test_accuracy"] = living["kernel_change"]
    dead = living.assign(phase="dead", late_product=0.0, late_cosine=np.nan, test_accuracy=0.1, kernel_change=0.0)
    found = {claim.name: claim for claim in cosines.claims(pd.concat([living, dead], ignore_index=True))}
    for name in ("predicts_features", "predicts_accuracy"):
        assert found[name].measured.value == pytest.approx(1.0)
        assert f"{len(living)} runs, {len(dead)} diverged or died" in found[name].remark


def test_both_sides_of_a_bounce_count():
    steps = np.arange(301)
    odd = steps % 2 == 1
    run = {"cosine/cumulative/all": np.where(odd, -0.265, 0.243), "cosine/previous/all": np.full(301, -0.98)}
    run |= {name: np.ones(301) for name in ("update_norm/all", "distance/all", "test/accuracy")}
    moved = ("kernel_change", "preactivation_change/layer_1", "preactivation_change/layer_2")
    run |= {f"features/{name}": np.ones(301) for name in moved}
    run |= {"train/loss": np.where(odd, 4.0, 1.0)}
    run["lr_x_sharpness"] = np.where(steps % 3 == 0, np.where(odd, 4.44, 1.58), np.nan)  # a probe every third step
    run["features/preactivation_change/layer_2"] = np.full(301, 9.0)  # the readout's is no feature
    measured = cosines._measure(run)
    assert measured["preactivation_change"] == 1.0
    assert measured["late_product"] == pytest.approx((4.44 + 1.58) / 2, rel=0.02)
    assert measured["phase"] == "catapult"
    assert measured["late_cosine"] == pytest.approx((0.243 - 0.265) / 2, abs=2e-3)
    assert final_loss(run) == pytest.approx(2.0)  # the geometric mean of 4 and 1


def test_the_probes_of_cosines_meet_both_sides_of_a_bounce():
    for name in ("cosines", "catapult"):
        every = OmegaConf.load(EXPERIMENTS / f"{name}.yaml").callbacks.curvature.every
        assert every % 2 == 1


def test_where_no_run_was_long_enough_nothing_is_said_of_cosines():
    cells = grid(["nup", "mup"], schedule="constant", phase="diverged", **dict.fromkeys(cosines.MEASURED, np.nan))
    cells["schedule.rate"], cells["schedule.kappa"] = 0.3, np.nan
    assert set(verdicts(cosines.claims(cells)).values()) == {UNKNOWN}


def test_cosines_identity_and_prediction():
    generator = np.random.default_rng(0)
    cells = grid(["nup", "mup"], schedule="constant")
    cells = cells.assign(phase="stable", identity_error=1e-12, first_cosine=0.95, late_cosine=0.3)
    cells = pd.concat([cells.assign(**{"schedule.rate": rate}) for rate in (0.3, 1.0)], ignore_index=True)
    cells["schedule.kappa"] = np.nan
    cells["late_previous"], cells["late_product"] = -0.95, 1.0
    cells["early_cosine"] = generator.uniform(0, 1, len(cells))
    cells["early_distance"] = generator.uniform(0, 1, len(cells))
    cells["kernel_change"] = cells["early_cosine"] ** 3
    cells["test_accuracy"] = generator.uniform(0, 1, len(cells))
    edge = cells.assign(phase="edge of stability", late_cosine=0.01)
    beyond = cells.assign(phase="catapult", late_cosine=-0.05)
    found = {claim.name: claim for claim in cosines.claims(pd.concat([cells, edge, beyond], ignore_index=True))}
    assert found["predicts_features"].measured.value == pytest.approx(1.0)
    assert found["predicts_accuracy"].verdict == FAILS  # twelve settings say that there is no correlation,
    few = cells[cells["schedule.rate"] == 0.3]
    assert verdicts(cosines.claims(few))["predicts_accuracy"] == UNDECIDED  # six do not
    assert {claim.verdict for name, claim in found.items() if name != "predicts_accuracy"} == {HOLDS}


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((-0.6, -0.8, -0.02), HOLDS),
        ((-0.6, -0.8, -0.009), UNDECIDED),  # other draws of the bootstrap would hold 0
        ((0.4, 0.02, 0.6), PARTLY),
        ((0.4, 0.009, 0.6), UNDECIDED),
        ((-0.3, -0.6, 0.1), UNDECIDED),  # it may be -0.5
        ((-0.1, -0.4, 0.3), FAILS),
    ],
)
def test_what_an_interval_says_of_a_rank_correlation(interval, verdict, monkeypatch):
    monkeypatch.setattr(cosines, "bootstrap", lambda *_, **__: Estimate(*interval))
    cells = grid(["nup", "mup"], schedule="constant", phase="stable", **dict.fromkeys(cosines.MEASURED, 0.5))
    cells = pd.concat([cells.assign(**{"schedule.rate": rate, "schedule.kappa": np.nan}) for rate in (0.3, 1.0)])
    assert verdicts(cosines.claims(cells.reset_index(drop=True)))["predicts_features"] == verdict


@pytest.mark.parametrize("loss", [[1.0], [np.inf], [np.nan], np.linspace(1.0, 0.1, 41), np.full(41, np.inf)])
@pytest.mark.parametrize("experiment", [catapult, coordinate_check, cosines, geometric])
def test_what_was_not_measured_is_missing(experiment, loss):
    """As without a callback, or of a network that was dead from the start, whose cosines are undefined throughout."""
    columns = History({"step": np.arange(len(loss)), "train/loss": np.asarray(loss)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = experiment._measure(columns)
    measured = [name for name, value in found.items() if not isinstance(value, str) and np.isfinite(value)]
    counts = ("checks", "missed", "on_kinks", "kinks_differ", "products", "moved_in_ten_steps")
    assert {name for name in measured if found[name] != 0} <= {name for name in found if "loss" in name} | {"spike"}
    assert {name for name in measured if found[name] == 0} <= set(counts)
    assert found.get("phase", "diverged") in ("diverged", "monotone", "unmeasured")


def history(**columns) -> dict[str, np.ndarray]:
    return {name: np.asarray(values, dtype=float) for name, values in columns.items()}


def test_the_phase_of_a_run():
    steps = 100
    flat = np.full(steps, 0.5)
    falling = np.geomspace(1.0, 0.1, steps)
    run = {"train/loss": falling, "sharpness": flat, "lr_x_sharpness": flat}
    assert catapult._measure(history(**run))["phase"] == "monotone"
    at_edge = history(**{**run, "lr_x_sharpness": np.full(steps, 1.97)})
    assert catapult._measure(at_edge)["phase"] == "edge of stability"
    spike = falling.copy()
    spike[5] = 3 * falling[4]
    thrown = catapult._measure(history(**{**run, "train/loss": spike, "sharpness": np.r_[2.0, flat[1:]]}))
    assert thrown["phase"] == "catapult"
    assert thrown["spike"] == pytest.approx(3.0)
    assert thrown["sharpness_ratio"] == 0.25


def phases(limits: dict[int, float], lost: str = "diverged", seeds: int = 2, fine: float = 11.5) -> pd.DataFrame:
    """νP networks that are lost from a limiting η·λ_0 on, by depth."""
    rows = []
    for depth, limit in limits.items():
        for seed in range(seeds):
            for rate in (0.5, 0.7, 1.1, 1.5, *np.linspace(2.2, 3.8, 20), 6.0, fine, 12.0):
                phase = lost if rate >= limit else "monotone" if rate < 2 else "catapult"
                row = {**SETTING, "model": "nup", "model.depth": depth, "seed": seed, "schedule.rate": rate}
                row |= {"loss": "mse", "final_loss": 0.1}
                ratio = 0.5 + 0.01 * seed
                rows.append({**row, "phase": phase, "spike": 1.5 if rate > 2 else 1.0, "sharpness_ratio": ratio})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("lost", ["diverged", "dead"])
def test_catapult_claims(lost: str):
    cells = phases(dict.fromkeys((3, 5, 9), 12.0), lost, seeds=12)
    found = {name: said for name, said in verdicts(catapult.claims(cells)).items() if name.startswith("nup")}
    assert set(found.values()) == {HOLDS}
    few = verdicts(catapult.claims(cells[cells["seed"] < 2]))
    for name in ("nup_stable_below_two", "nup_spike_between", "nup_bounded_to_four"):
        assert few[name] == PARTLY  # all runs of six networks, at many rates each, may be 0.54 of many networks
    found = verdicts(catapult.claims(phases({3: 12.0, 5: 12.0, 9: 2.2}, lost, seeds=12)))
    assert found["nup_limit_flat"] == found["nup_stands_more_than_four"] == found["nup_bounded_to_four"] == FAILS


def test_what_was_not_tried_beyond_four_says_nothing_of_four():
    cells = phases(dict.fromkeys((3, 5), 12.0))
    found = verdicts(catapult.claims(cells[cells["schedule.rate"] < 4.0]))
    assert found["nup_stands_more_than_four"] == UNKNOWN
    assert verdicts(catapult.claims(cells))["nup_stands_more_than_four"] == HOLDS


def test_catapults_that_began_below_the_edge_are_counted_apart():
    cells = phases({3: 12.0, 5: 12.0})
    early = cells["schedule.rate"] == 1.5
    cells.loc[early, ["phase", "sharpness_ratio"]] = ["catapult", 4.0]
    (claim,) = (claim for claim in catapult.claims(cells) if claim.name == "nup_flatter_after")
    assert claim.measured.value == pytest.approx((0.5 * 0.51) ** 0.5)
    assert claim.remark == "of catapults from below 2: 4"
    alone = cells[(cells["seed"] == 0) & (cells["model.depth"] == 3)]
    (one,) = (claim for claim in catapult.claims(alone) if claim.name == "nup_flatter_after")
    assert one.verdict == PARTLY  # one network says nothing of others


def test_networks_weigh_alike_however_many_of_their_rates_are_catapults():
    cells = phases({3: 12.0, 5: 2.5})  # of depth 5 only the rates up to 2.45
    cells.loc[cells["model.depth"] == 5, "sharpness_ratio"] *= 4
    (claim,) = (claim for claim in catapult.claims(cells) if claim.name == "nup_flatter_after")
    assert claim.measured.value == pytest.approx((0.5 * 0.51 * 2.0 * 2.04) ** 0.25)


@pytest.mark.parametrize(("loss", "end"), [("mse", 0.46), ("cross_entropy", 2.4)])
def test_a_catapult_that_learned_nothing_is_not_what_left_a_flat_region(loss: str, end: float):
    cells = phases({3: 12.0, 5: 12.0}).assign(loss=loss)
    collapsed = cells["schedule.rate"] == 6.0
    cells.loc[collapsed, ["final_loss", "sharpness_ratio"]] = [end, 1e-4]
    (claim,) = (claim for claim in catapult.claims(cells) if claim.name == "nup_flatter_after")
    assert claim.measured.value == pytest.approx((0.5 * 0.51) ** 0.5)
    assert claim.remark.endswith(
        f"with {collapsed.sum()} of {(cells['phase'] == 'catapult').sum()} that learned nothing"
    )
    assert float(claim.remark.split()[0]) < 0.4


def test_a_network_that_ends_with_outputs_0_and_no_curvature_is_dead():
    assert catapult._is_dead(0.5, 0.0)
    assert catapult._is_dead(np.log(10), 0.01)
    assert not catapult._is_dead(0.49, 0.0)
    assert not catapult._is_dead(0.5, 0.2)
    run = {"train/loss": [0.6, 3.0, *[0.5] * 98], "sharpness": [2.0, *[0.0] * 99], "lr_x_sharpness": np.zeros(100)}
    assert catapult._measure(history(**run))["phase"] == "dead"


def test_the_limit_of_a_catapult_is_known_no_better_than_the_grid_of_rates():
    # Two seeds that agree on a grid a factor 2 apart: between their interval of no width and the truth is the grid.
    rows = [
        {
            "model.depth": depth,
            "seed": seed,
            "schedule.rate": rate,
            "phase": "diverged" if rate >= limit else "catapult",
        }
        for seed in (0, 1)
        for depth, limit in ((4, 16), (8, 8))
        for rate in (2, 4, 8, 16)
    ]
    found, censored = catapult._limit_exponent(pd.DataFrame(rows))
    # The limits lie in (8, 16) and (4, 8): exponents from 0 to -2, by halves.
    assert found.value == pytest.approx(-1)
    assert (found.low, found.high) == pytest.approx((-2, 0))
    assert censored == 0


def test_depths_at_which_no_run_is_lost_are_not_left_out_of_the_limit():
    cells = phases({3: 99.0, 5: 12.0, 9: 6.0})
    found, censored = catapult._limit_exponent(cells)
    assert censored == 2  # depth 3 of two seeds
    assert found.high < 0
    (claim,) = (claim for claim in catapult.claims(cells) if claim.name == "nup_limit_flat")
    assert claim.verdict == FAILS
    assert claim.remark.startswith("where none did up to 12 (2 of the curves) 12 is taken")
    assert "nup_limit_flat" not in verdicts(catapult.claims(phases({3: 99.0, 5: 99.0})))


def geometric_cells(hold: float, late_constant: float) -> pd.DataFrame:
    rows = []
    for seed in (0, 1):
        for steps in (600, 3000):
            for schedule, kappa in (("geometric", 1.5), ("geometric", 2.5), ("constant", None)):
                level = kappa * hold if kappa else late_constant
                rows.append(
                    {
                        **SETTING,
                        "rule": f"geometric κ = {kappa}" if kappa else "constant 2.5/λ₀",
                        "model": "nup",
                        "model.depth": 4,
                        "seed": seed,
                        "status": "completed",
                        "schedule": schedule,
                        "schedule.kappa": kappa,
                        "trainer.max_steps": steps,
                        "products": 3000.0,
                        **dict.fromkeys(["product", "product_low", "product_high", "product_end"], level),
                        **dict.fromkeys(["reference_smallest", "reference_largest"], level),
                        "solvers_differ": 1e-4,
                        "checks": 40,
                        "missed": 0,
                        "on_kinks": 0,
                        "kinks_differ": 0.0,
                        "kinks_end": 0.0,
                        "share_beyond": float(level > 2),
                        "sharpness": 4.0 - level,
                        **dict.fromkeys(["loss", "loss_largest", "loss_peak", "test_loss"], 0.1),
                        "loss_start": 0.5,
                        "train_loss": 0.2 - 0.04 * level,
                        "test_accuracy": 0.8 + 0.04 * level,
                    }
                )
    rows = [row for row in rows if not (row["trainer.max_steps"] == 3000 and row["schedule.kappa"] == 1.5)]
    return pd.DataFrame(rows)


def test_geometric_schedule_claims():
    assert set(verdicts(geometric.claims(geometric_cells(1.001, 2.05))).values()) == {HOLDS}
    found = {claim.name: claim for claim in geometric.claims(geometric_cells(1.0, 2.05))}
    assert found["beyond_constant"].measured.value == pytest.approx(0.45)
    assert found["flatter_than_constant"].measured.value == pytest.approx(1.5 / 1.95)
    assert found["better_than_constant"].measured.value == pytest.approx(0.04 * 0.45)
    assert found["better"].measured.value == pytest.approx(0.04)
    assert found["faster"].measured.value == pytest.approx(0.1 / 0.14)
    assert verdicts(geometric.claims(geometric_cells(0.7, 2.05)))["prolongs"] == FAILS
    found = verdicts(geometric.claims(geometric_cells(1.1, 3.0)))
    assert found["holds_kappa"] == found["holds_kappa_long"] == found["constant_fades"] == FAILS
    cells = geometric_cells(1.0, 2.0)
    cosine = cells[cells["schedule"] == "constant"].assign(schedule="cosine")
    for kinks, verdict in ((12.0, HOLDS), (0.0, FAILS)):
        both = pd.concat([cells, cosine.assign(kinks_end=kinks, on_kinks=1, kinks_differ=0.02)], ignore_index=True)
        assert verdicts(geometric.claims(both))["rests_on_kinks"] == verdict
        assert verdicts(geometric.claims(both))["solvers_agree"] == HOLDS


def test_a_sweep_of_one_length_is_judged_too():
    cells = geometric_cells(1.0, 2.05)
    cells = cells[cells["trainer.max_steps"] == 600]  # several runs of each seed are then the longest ones
    slow = cells[cells["schedule"] == "constant"].assign(rule="constant 1/λ₀", product_end=1.95)
    cells = pd.concat([cells, slow], ignore_index=True)
    found = {claim.name: claim for claim in geometric.claims(cells)}
    assert found["beyond_constant"].measured.value == pytest.approx((1.5 + 2.5) / 2 - (2.05 + 1.95) / 2)
    nothing = {claim.name: claim for claim in geometric.claims(cells[cells["schedule"] == "geometric"])}
    assert nothing["beyond_constant"].verdict == nothing["constant_fades"].verdict == UNKNOWN


def test_a_cooldown_is_judged_by_loss_and_by_sharpness():
    cells = geometric_cells(1.0, 2.05)
    hot = cells["rule"].eq("geometric κ = 2.5") & cells["trainer.max_steps"].eq(600)
    cells["sharpness_end"] = 0.5
    for sharpness, verdict in ((0.55, HOLDS), (0.7, FAILS)):
        cooled = cells[hot].assign(rule="geometric κ = 2.5, cooldown", sharpness_end=sharpness, train_loss=0.02)
        both = pd.concat([cells, cooled], ignore_index=True)
        found = {claim.name: claim for claim in geometric.claims(both)}
        assert found["cooldown"].measured.value == pytest.approx(0.02 / 0.1)
        assert found["cooldown_flat"].measured.value == pytest.approx(sharpness / 0.5)
        assert (found["cooldown"].verdict, found["cooldown_flat"].verdict) == (HOLDS, verdict)
    older = verdicts(geometric.claims(both.drop(columns="sharpness_end")))
    assert "cooldown" in older
    assert "cooldown_flat" not in older


def test_the_last_tenth_tells_the_sharpness_of_the_end():
    columns = {name: np.ones(20) for name in ("lr_x_sharpness", "train/loss", "reference/sharpness")}
    columns |= {"reference/lr_x_sharpness": np.ones(20), "reference/kinks": np.zeros(20)}
    columns["sharpness"] = np.array([4.0] * 18 + [1.0, 3.0])
    assert geometric._measure(columns)["sharpness_end"] == 2.0


def test_checks_on_a_kink_are_counted_apart():
    columns = {
        "lr_x_sharpness": np.full(8, 2.5),
        "train/loss": np.full(8, 0.1),
        "sharpness": np.full(8, 1.0),
        "reference/sharpness": np.array([1.0, 1.002, np.nan, 1.01, 1.0, 1.0, 1.0, 1.0]),
        "reference/lr_x_sharpness": np.full(8, 2.5),
        "reference/kinks": np.array([0, 0, np.nan, 3, 0, 0, 0, 5]),
        "hessian/products": np.array([9, 2, 2, np.nan, 3, 2, 2, 2]),
    }
    found = geometric._measure(columns)
    assert (found["checks"], found["missed"], found["on_kinks"], found["kinks_end"]) == (5, 1, 2, 5.0)
    assert found["products"] == 22
    assert (found["solvers_differ"], found["kinks_differ"]) == pytest.approx((0.002, 0.01))


def test_nups_exponent_is_that_of_the_sum_over_hidden_layers():
    cells = coordinates("nup", 0.0, -1.0)
    cells["preactivations"] = [sum(1 / k for k in range(1, depth)) for depth in cells["model.depth"]]
    claim = next(c for c in coordinate_check.claims(cells) if c.name == "nup_preactivations")
    assert float(re.search(r"within ([\d.]+)", claim.criterion)[1]) == pytest.approx(claim.measured.value, abs=0.01)


def test_the_readouts_step_is_no_hidden_layers():
    steps = {
        f"layer_step/preactivations/layer_{k}": np.array([value, value]) for k, value in ((1, 1.0), (2, 2.0), (3, 50.0))
    }
    shares = {f"layer_step/output_share/layer_{k}": np.array([1.0, 1.0]) for k in (1, 2, 3)}
    columns = {
        "step": np.arange(2.0),
        "lr": np.ones(2),
        "layer_step/output": np.ones(2),
        "layer_step/mean_residual": np.ones(2),
    }
    assert coordinate_check._measure({**columns, **steps, **shares})["moved_in_ten_steps"] == 6.0


def test_every_rate_has_a_place_for_each_seed_and_its_tick_amid_them():
    cells = grid(["nup"], seeds=range(2), phase=catapult.PHASES[0], spike=1.0, sharpness_ratio=1.0)
    cells = pd.concat([cells.assign(**{"schedule.rate": rate}) for rate in (0.5, 1.0)], ignore_index=True)
    cells = cells[(cells["schedule.rate"] < 1) | (cells["seed"] == 0)]  # one seed was not run at the second rate
    axis = catapult.figure(cells).axes[0]
    assert axis.images[0].get_array().shape == (4, 4)
    assert axis.get_xticks().tolist() == [0.5, 2.5]
