"""Spoofs against defences: each cell is what its check says of a replay, and every verifier has a bill."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import polkit as pk
from polkit.defences import PRESETS, Dispute, adaptive_threshold, set_standards
from polkit.defences.standards import LOOSE
from polkit.experiments.matrix import COLUMNS, PUBLISHED, defence_matrix, errors_against, honest_verdicts
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
    assert table["as published"].all()  # with a δ a hundred times too large
    assert table["η decided by the verifier"].tolist() == [True, True, False]
    assert table["path not straight"].tolist()[1:] == [False, False]
    assert table.loc["honest proof", "augmentation recorded"]
    assert not table.loc["interpolation only", "augmentation recorded"]
    assert table.columns.tolist() == [PUBLISHED, *COLUMNS]
    # These are 16 steps.
    needs_a_real_training = ["adaptive threshold", "accuracy trend", "memorised", "path not straight", "all"]
    assert table.loc["honest proof"].drop(needs_a_real_training).all()
    assert table["start from the seed"].tolist() == [True, False, False]  # a sorted W_0 is no draw
    assert table["data committed"].all()
    assert table["nothing perturbed"].all()  # neither spoof has changed an image
    assert table["T decided by the verifier"].all()  # all three have the task's 16 steps
    assert table["exact initial values"].all()
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
        alone = adaptive_threshold(replay(folder, task, REDRAWN))
        assert table.loc[name, "adaptive threshold"] == (not alone)
    strict = defence_matrix(small_proof, spoofs, small_calibration.scaled(1e-6), standards).accepted
    beneath = strict.drop(columns=["recommended", "recommended, any T'"])  # which do not stand on the paper's check
    assert not beneath.to_numpy().any()  # no defence accepts what the verifier beneath it rejects
    assert strict["recommended"].equals(table["recommended"])


def test_honest_verdicts_name_every_verifier_and_every_machine(small_proof, small_calibration, small_standards):
    standards, dispute = small_standards, Dispute(small_proof.final_weights(), revealed_seed=0)
    found = honest_verdicts(small_proof, small_calibration, standards, dispute, {"own limits": standards})
    table = found.pivot(index="verifier", columns="conditions", values="accepted")
    assert set(table) == {"other kernels", "another thread", "float64", "bf16", "own limits"}
    assert set(PRESETS) <= set(table.index)
    assert table.loc["recommended", "other kernels"] == table.loc["recommended", "own limits"] == True  # noqa: E712
    assert table.loc["recommended", "bf16"] == False  # noqa: E712 (it computes in three digits)
    costs = found[found["conditions"] == "other kernels"].set_index("verifier")["operations"]
    assert costs["as published"] == small_proof.cost().floating_point_operations  # an interval is an epoch here
    assert costs["all"] > costs["recommended"]
    assert np.isfinite(found.loc[found["verifier"] == "recommended", "loose"]).all()
    other = replace(small_calibration, task=small_calibration.task.replace(momentum=0.5))
    with pytest.raises(ValueError, match="is refused without a replay: task"):
        honest_verdicts(small_proof, other, standards, dispute, {})
