"""The spoofs of the book and the table of what they cost: four meters, as spent and as shares of the proof's."""

import inspect

import pandas as pd
import pytest

import polkit as pk
from polkit.experiments.gallery import (
    COLOUR,
    DIGITS,
    METERS,
    TABLE,
    costs_of_matrix,
    forging_costs,
    lengths,
    shown_costs,
)
from polkit.experiments.stages import staged_pace


def test_every_spoof_has_the_length_that_suits_it():
    task, pace = pk.task("digits"), staged_pace((0.0, 0.5), (1.0, 0.5))
    steps = lengths(task, 14, pace)
    assert (steps["short"], steps["usual"], steps["early"]) == (40, 140, 400)
    assert steps["staged"] == 190  # the first half walks two thirds of the path: 14 · 4/3 intervals
    assert steps["blindfold"] == 50
    assert steps["crossing"] >= 100 * task.steps_per_epoch + 20  # the rate drops after 100 epochs
    assert steps["whole"] == steps["hops"] == task.steps
    assert lengths(task.replace(epochs=2), 14, ())["hops"] is None  # 22 steps before the rate drops
    assert lengths(task, 14, ())["staged"] == 0
    for attack, length, taken, settings in TABLE.values():
        known = inspect.signature(attack).parameters
        assert length in steps
        assert {*taken, *settings} <= set(known)


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
