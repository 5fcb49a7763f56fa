"""The table of what a spoof costs: four meters, as they were spent and as shares of the proof's."""

from dataclasses import asdict

import pandas as pd
import pytest

import polkit as pk
from polkit.experiments.gallery import (
    COLOUR,
    DIGITS,
    METERS,
    costs_of_matrix,
    costs_of_runs,
    forging_costs,
    shown_costs,
    spoof_costs,
)


def test_a_spoof_has_the_cost_of_its_own_record_and_its_share_of_the_proofs(small_proof, small_task, tmp_path):
    spoof = pk.interpolation_only(
        small_proof.final_weights(), small_task, spoof_steps=8, out=tmp_path / "spoof", progress=False
    )
    (row,) = spoof_costs(small_proof, {"interpolation only": spoof}).to_dict("records")
    assert (row["folder"], row["steps"]) == ("interpolation only", 8)
    assert {meter: row[meter] for meter in METERS} == asdict(spoof.cost())
    assert row["share.gradient_evaluations"] == 8 / 16
    assert row["share.stored_bytes"] == spoof.cost().stored_bytes / small_proof.cost().stored_bytes


def test_a_matrixs_shares_times_the_mean_cost_of_its_proofs():
    runs = pd.DataFrame(
        {"experiment": ["honest", "honest", "spoof"], "task": "digits"}
        | {f"cost.{meter}": [10.0, 30.0, 999.0] for meter in METERS}
    )
    costs = pd.DataFrame(
        {"task": ["digits", "other"], "folder": ["Attack I", "x"], "steps": [40, 9]}
        | {meter: [0.25, 1.0] for meter in METERS}
    )
    (row,) = costs_of_matrix(costs, runs).to_dict("records")
    assert row == {"folder": "Attack I", "steps": 40} | dict.fromkeys(METERS, 5.0) | {
        f"share.{meter}": 0.25 for meter in METERS
    }


def test_runs_of_one_length_under_the_books_names():
    runs = pd.DataFrame(
        {"attack": ["attack_2", "attack_2", "attack_1"], "spoof_steps": [60, 80, 80]}
        | {f"cost.{meter}": [1.0, 2.0, 3.0] for meter in METERS}
        | {f"share.{meter}": [0.1, 0.2, 0.3] for meter in METERS}
    )
    (row,) = costs_of_runs(runs, {"attack_2": "Attack II"}, 80).to_dict("records")
    assert row["folder"] == "Attack II"
    assert {row[meter] for meter in METERS} == {2.0}
    assert {row[f"share.{meter}"] for meter in METERS} == {0.2}


def test_the_published_costs_fit_what_an_attack_computes():
    table = forging_costs().set_index(["data", "folder"])
    assert not table.isna().any().any()
    for data, steps in ((DIGITS, 4400), (COLOUR, 1000)):
        known = table.loc[data]
        for attack in (
            "Attack I",
            "Attack II",
            "Attack III",
            "interpolation only",
            "borrowed momentum",
            "distillation",
        ):
            assert attack in known.index
        plain = known.loc["interpolation only"]  # one update a step, nothing else
        assert plain["share.gradient_evaluations"] == pytest.approx(plain["steps"] / steps, rel=1e-4)
        assert plain["share.floating_point_operations"] == pytest.approx(plain["steps"] / steps, rel=1e-4)
        assert known.loc["infinitesimal update", "gradient_evaluations"] == 0
        whole = known["floating_point_operations"] / known["share.floating_point_operations"]
        assert whole.max() == pytest.approx(whole.min(), rel=1e-4)


def test_the_table_shows_value_and_share():
    row = {
        "data": DIGITS,
        "folder": "Attack II",
        "steps": 1400,
        "gradient_evaluations": 927.0,
        "floating_point_operations": 6.16e10,
        "wall_seconds": 20.4,
        "stored_bytes": 3_070_000,
    }
    shown = shown_costs(pd.DataFrame([row | {f"share.{meter}": 0.1944 for meter in METERS}]))
    assert shown.loc[(DIGITS, "Attack II")].tolist() == [
        "1,400",
        "927 (0.194)",
        "62 G (0.194)",
        "20.4 s (0.194)",
        "3.1 MB (0.194)",
    ]
