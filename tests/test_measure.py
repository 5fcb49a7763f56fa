"""What a run leaves behind: the changes of a spoof's images."""

import math
from dataclasses import replace

import pandas as pd
import pytest

import polkit as pk
from polkit.reproduce.measure import image_changes, treatment


def test_the_changes_of_a_spoofs_images_are_those_of_its_folder(small_proof, small_task, tmp_path):
    spoof = pk.attack_2(
        small_proof.final_weights(),
        small_task,
        spoof_steps=8,
        seed=3,
        iterations=3,
        noise_weight=0.0,
        stopping_test=False,
        out=tmp_path / "spoof",
        progress=False,
    )
    means, ratios, largest = [], [], []
    for step, batch in enumerate(spoof.batches()):
        before = pk.original_batch(small_task, step, seed=3).images.double()
        change = (spoof.points().take(batch).images.double() - before).abs()
        means.append(float(change.mean()))
        largest.append(float(change.max()))
        each = [10 * math.log10(255**2 / float((image**2).mean())) for image in change if image.any()]
        if each:
            ratios.append(sum(each) / len(each))
    assert ratios
    assert image_changes(spoof, 3) == {
        "grey_levels.mean": pytest.approx(pd.Series(means).mean()),
        "grey_levels.largest": max(largest),
        "psnr.mean": pytest.approx(pd.Series(ratios).mean()),
    }


def test_a_spoof_without_images_of_its_own_has_no_changes(small_proof, small_task, tmp_path):
    settings = {"spoof_steps": 8, "seed": 3, "out": tmp_path / "spoof", "progress": False}
    assert image_changes(pk.interpolation_only(small_proof.final_weights(), small_task, **settings), 3) == {}


@pytest.mark.parametrize("attack", [pk.attack_2, pk.attack_3])
def test_fresh_batches_are_compared_with_what_they_were(attack, small_proof, small_task, small_calibration, tmp_path):
    settings = {"spoof_steps": 8, "seed": 3, "iterations": 0, "retries": 3, "movement_limit": 1e-3}
    final, known = small_proof.final_weights(), {"calibration": small_calibration, "progress": False}
    spoof = attack(final, small_task, **settings, **known, out=tmp_path / "spoof")
    assert spoof.trace()["attempt"].max() > 0  # no batch fits, and the best was not the first
    assert image_changes(spoof, 3) == {"grey_levels.mean": 0.0, "grey_levels.largest": 0.0, "psnr.mean": None}


@pytest.mark.parametrize("attack", [pk.attack_2, pk.attack_3])
def test_a_spoof_that_left_every_interval_as_it_was_is_measured(attack, small_proof, small_task, small_calibration):
    loose = replace(small_calibration, thresholds={"weights": dict.fromkeys(pk.DISTANCES, 1e6)})
    asked = {"spoof_steps": 8, "calibration": loose, "leave_within": 1.0, "progress": False}
    values = treatment(attack(small_proof.final_weights(), small_task, **asked).trace())
    assert values.pop("batches.all") > 0
    assert values.pop("batches.treated") == values.pop("evaluations") == 0
    assert set(values.values()) == {None}


def test_a_fresh_batch_that_did_as_it_was_is_not_counted_as_perturbed():
    rows = {"step": [0, 1], "evaluations": [6, 4], "iterations": [0, 4], "attempt": [1, 0]}
    rows |= {f"{name}_{when}": [1.0, 3.0] for name in ("loss", "gradient_squared") for when in ("before", "after")}
    values = treatment(pd.DataFrame(rows))
    assert (values["batches.treated"], values["evaluations"], values["loss.before"]) == (1, 10, 3.0)
