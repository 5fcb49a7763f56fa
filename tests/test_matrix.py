"""Spoofs against defences: each cell is what its check says of a replay, and every verifier has a bill."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import polkit as pk
from polkit.defences import PRESETS, RECORDED, Dispute, adaptive_threshold, gather, set_standards
from polkit.defences.presets import Sample, mostly_tight, state_chained
from polkit.defences.standards import LOOSE
from polkit.experiments.evasion import crossing_in_hops
from polkit.experiments.matrix import (
    COLUMNS,
    CORRECTED,
    acceptance,
    defence_matrix,
    errors_against,
    everything_recorded,
    honest_verdicts,
)
from polkit.training import DISTANCES
from polkit.verifier.replay import replay

REDRAWN = pk.Conditions(augmentation="redraw")


class Looked:
    """Evidence of replayed rows, for limits of 1."""

    def __init__(self, rows):
        self.found = pd.DataFrame(rows, columns=["start", "part", "distance", "error"])
        limits = {part: dict.fromkeys(DISTANCES, 1.0) for part in ("weights", "momentum")}
        self.standards = type("Limits", (), {"loose": limits, "tight": limits})

    def rows(self, check):
        return self.found


def test_errors_stand_to_their_limits_as_multiples_of_a_length():
    calm = [(4 * number, "weights", "l1", 0.5) for number in range(2, 5)]
    errors = errors_against(Looked([*calm, (0, "weights", "l1", 3.0), (0, "momentum", "cos", 16.0)]))
    assert errors == {"loose": 4.0, "tight": 0.5, "above_tight": 0.25}  # the cosine's multiple is 16, and its root 4
    broken = errors_against(Looked([*calm, (0, "weights", "l1", np.nan), (0, "weights", "l2", 0.1)]))
    assert broken["above_tight"] == 0.25


def test_the_matrix_is_what_its_checks_say(small_task, small_proof, small_calibration, tmp_path):
    final, generous = small_proof.final_weights(), small_calibration.scaled(100)
    budget = {"spoof_steps": 16, "seed": 1, "progress": False}
    interpolated = pk.interpolation_only(final, small_task, out=tmp_path / "interpolated", **budget)
    claimed = pk.infinitesimal_update(final, small_task, out=tmp_path / "claimed", **budget)
    spoofs = {"interpolation only": interpolated, "infinitesimal update": claimed}
    standards = set_standards(small_proof, generous)
    judged = defence_matrix(small_proof, spoofs, generous, standards)
    table = judged.accepted
    assert table.index.tolist() == ["honest proof", *spoofs]
    assert table["Algorithm 2, corrected"].all()  # with a δ a hundred times too large
    assert table["η decided by the verifier"].tolist() == [True, True, False]
    assert table["path not straight"].tolist()[1:] == [False, False]
    assert table.loc["honest proof", "augmentation recorded"]
    assert not table.loc["interpolation only", "augmentation recorded"]
    assert table.columns.tolist() == [CORRECTED, *COLUMNS]
    # These are 16 steps.
    needs_a_real_training = ["adaptive threshold", "accuracy trend", "memorised", "path not straight", "all"]
    assert table.loc["honest proof"].drop(needs_a_real_training).all()
    assert table["start from the seed"].tolist() == [True, False, False]  # a sorted W_0 is no draw
    assert table["data committed"].all()
    assert table["nothing perturbed"].all()  # neither spoof has changed an image
    assert table["T decided by the verifier"].all()  # all three have the task's 16 steps
    assert table["recommended"].tolist() == [True, False, False]
    assert (table["recommended"] == table["recommended, any T'"]).all()
    assert judged.errors["honest proof"]["loose"] <= 1 / LOOSE  # the limit was set on these very intervals
    # Multiples of a δ of 50 honest errors or more, which are larger on one processor than on another.
    assert judged.errors["honest proof"]["tight"] <= 1
    assert judged.errors["interpolation only"]["tight"] > max(1, 100 * judged.errors["honest proof"]["tight"])
    replayed = small_task.replace(learning_rate=1e-9)
    for name, folder, task in (
        ("interpolation only", interpolated, small_task),
        ("infinitesimal update", claimed, replayed),
    ):
        found = adaptive_threshold(replay(folder, task, REDRAWN))
        assert table.loc[name, "adaptive threshold"] == (not found)
    alone = {"interpolation only": interpolated}
    strict = defence_matrix(small_proof, alone, small_calibration.scaled(1e-6), standards).accepted
    beneath = strict.drop(
        columns=["recommended", "recommended, any T'", "thorough"]
    )  # which do not stand on the paper's check
    assert not beneath.to_numpy().any()  # no defence accepts what the verifier beneath it rejects
    assert strict["recommended"].tolist() == [True, False]


def test_acceptance_is_that_of_a_verifier_who_draws_each_time_anew(small_task, small_proof, tmp_path):
    task, final = small_task.replace(checkpoint_interval=1), small_proof.final_weights()
    proof = pk.prove(task, 0, out=tmp_path / "proof", progress=False)
    calibration = pk.calibrate(proof, replays=2, workers=1, out=tmp_path / "calibration.json", progress=False)
    spoof = crossing_in_hops(final, task, hops=1, spoof_steps=16, seed=1, out=tmp_path / "s", progress=False)
    standards = set_standards(proof, calibration)
    seen = gather(spoof, [everything_recorded], calibration, standards, Dispute(final, revealed_seed=0))
    claimed = seen.rows(everything_recorded).query("start == 6 and part == 'momentum' and distance == 'l2'")
    # So that this one interval is fabricated, and what the eight behind the hop are touched up by is forgiven.
    anything = {part: dict.fromkeys(table, 1e9) for part, table in standards.loose.items()}
    loose = anything | {"momentum": anything["momentum"] | {"l2": claimed["error"].item() / 2}}
    seen = replace(seen, standards=replace(standards, loose=loose, tight=anything))
    sample = Sample(lambda seen: [0], 5)
    checks = (state_chained.over(RECORDED, sample), mostly_tight.over(RECORDED, lambda seen: seen.random(5)))
    plain = [
        replace(seen, dispute=replace(seen.dispute, verifier_seed=seed)).verdict(checks).accepted for seed in range(60)
    ]
    found = acceptance(seen, sample, draws=60)
    assert 0 < found["measured"] == np.mean(plain) < 1
    assert found["fabricated"] == 1
    assert found["predicted"] == pytest.approx(math.comb(15, 5) / math.comb(16, 5))
    assert found["replayed"] == pytest.approx((5 + 11 / 16) / 16)  # the first interval, and five, often others
    certain = Sample(lambda seen: [6], 5)  # where the momentum is claimed
    assert [acceptance(seen, certain, draws=9)[name] for name in ("predicted", "measured")] == [0, 0]
    # Of five drawn intervals one may be above the tight δ.
    nothing = {part: dict.fromkeys(table, -1.0) for part, table in loose.items()}
    for tight, measured in ((loose, 1), (nothing, 0)):
        strict = replace(seen, standards=replace(standards, loose=anything, tight=tight))
        assert acceptance(strict, sample, draws=9)["measured"] == measured


def test_honest_verdicts_name_every_verifier_and_every_machine(small_proof, small_calibration, small_standards):
    standards, dispute = small_standards, Dispute(small_proof.final_weights(), revealed_seed=0)
    found = honest_verdicts(small_proof, small_calibration, standards, dispute, {"own limits": standards})
    table = found.pivot(index="verifier", columns="conditions", values="accepted")
    assert set(table) == {"other kernels", "another thread", "float64", "bf16", "own limits"}
    assert set(PRESETS) <= set(table.index)
    assert table.loc["recommended", "other kernels"] == table.loc["recommended", "own limits"] == True  # noqa: E712
    assert table.loc["recommended", "bf16"] == False  # noqa: E712 (it computes in three digits)
    costs = found[found["conditions"] == "other kernels"].set_index("verifier")["operations"]
    assert (
        costs["Algorithm 2, corrected"] == small_proof.cost().floating_point_operations
    )  # an interval is an epoch here
    assert costs["all"] > costs["recommended"]
    assert np.isfinite(found.loc[found["verifier"] == "recommended", "loose"]).all()
    other = replace(small_calibration, task=small_calibration.task.replace(momentum=0.5))
    with pytest.raises(ValueError, match="is refused without a replay: task"):
        honest_verdicts(small_proof, other, standards, dispute, {})
