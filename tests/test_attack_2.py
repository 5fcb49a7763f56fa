"""Attack II: batches that hardly move the weights as they are stored, and what they cost."""

from functools import partial

import numpy as np
import pytest
import torch

import polkit as pk
from polkit.adversary.attack_2 import settle_batch
from polkit.adversary.forge import arrived, updated
from polkit.adversary.perturb import Passes
from polkit.adversary.plan import make_plan
from polkit.training.conditions import applied
from polkit.verifier.replay import looked_up, replay


@pytest.fixture(scope="module")
def final(small_proof):
    return small_proof.final_weights()


def test_attack_2_settles_batches_within_gamma_as_they_are_stored(small_task, final, small_calibration):
    settings = {"iterations": 20, "stopping_test": True}
    plan = make_plan(final, small_task, spoof_steps=16, seed=1).limited(small_calibration, 0.5)
    with applied(plan.conditions):
        learner = plan.learner()
        untouched = settle_batch(Passes(learner), plan, 0, plan.first, **settings | {"iterations": 0})[2]
        limit = 0.5 * 0.95 * untouched["movement_over_limit"]  # 5% less than the batch moves by itself
        plan = plan.limited(small_calibration, limit)
        (batch,), update, row = settle_batch(Passes(learner), plan, 0, plan.first, **settings)
        learner.load(plan.first)
        learner.update(batch.points, step=0, augmentation_seed=batch.augmentation_seed)
        moved = pk.distances(learner.snapshot().weights, plan.first.weights)
    assert batch.points.images.dtype == torch.uint8
    assert set(pk.distances(learner.snapshot().weights, update.reached.weights).values()) == {0.0}
    over = max(moved[name] / (limit * small_calibration.thresholds["weights"][name]) for name in pk.DISTANCES)
    assert row["movement_over_limit"] == pytest.approx(over)
    assert row["movement_over_limit"] <= 1
    assert row["gradient_squared_after"] < row["gradient_squared_before"]
    assert 0 < row["evaluations"] <= 20


def test_where_an_interval_would_end_is_asked_again_only_after_a_batch_was_perturbed(
    small_task, final, small_calibration
):
    common = {"spoof_steps": 8, "seed": 1, "calibration": small_calibration.scaled(1e6), "progress": False}
    never = pk.attack_2(final, small_task, **common)
    once = pk.attack_2(final, small_task, leave_within=1e-9, **common)  # each batch is within γ, no interval arrives
    assert once.trace()["evaluations"].sum() == 0
    assert once.cost().gradient_evaluations == pytest.approx(never.cost().gradient_evaluations + 8)
    assert np.array_equal(np.stack(once.batches()), np.stack(never.batches()))
    for step in once.checkpoint_steps:
        assert pk.distances(once.checkpoint(step).buffers, never.checkpoint(step).buffers)["linf"] == 0


def test_a_batch_that_misses_gamma_is_kept_if_its_interval_ends_near_enough(small_task, final, small_calibration):
    plan = make_plan(final, small_task, spoof_steps=8, seed=1).limited(small_calibration, 1e-6)  # no batch keeps to it
    budget = {"iterations": 0, "stopping_test": True, "retries": 2}
    with applied(plan.conditions):
        passes, (first, *left) = Passes(plan.learner()), plan.interval(0)
        reached = updated(passes.learner, plan, 0, plan.first, [first, *left]).weights
        apart = pk.distances(reached, plan.weights_at(len(left) + 1))
        here = passes.learner, plan, 0, plan.first
        end = max(apart[name] / limit for name, limit in plan.thresholds.items())
        near, far = (
            settle_batch(passes, plan, 0, plan.first, partial(arrived, *here, share * end, left=left), **budget)
            for share in (1.001, 0.5)
        )
    assert torch.equal(near[0][0].points.images, first.points.images)
    assert (near[2]["settled"], near[2]["attempt"]) == (True, 0)
    assert not far[2]["settled"]


def test_the_cost_of_attack_2_by_hand(small_task, final, small_calibration, tmp_path):
    common = {"spoof_steps": 8, "calibration": small_calibration, "progress": False, "movement_limit": 0.9}
    stopping = pk.attack_2(final, small_task, **common, out=tmp_path / "stopping")
    fixed = pk.attack_2(final, small_task, **common, stopping_test=False, iterations=3, out=tmp_path / "fixed")
    units = pk.unit_costs(small_task)
    assert fixed.counts() == {"update": 8 * 2, "objective": 8 * 3}
    assert fixed.cost().gradient_evaluations == 8 * 2 + 8 * 3 * 3
    assert fixed.cost().floating_point_operations == (
        16 * units["update"].floating_point_operations + 24 * units["objective"].floating_point_operations
    )
    trace = stopping.trace()
    skipped = trace[trace["evaluations"] == 0]
    assert (skipped["movement_over_limit"] <= 1).all()
    assert stopping.counts().get("objective", 0) == trace["evaluations"].sum()
    assert (trace["iterations"] <= 10).all()


def test_a_generous_limit_leaves_every_batch_alone(small_task, final, small_calibration, tmp_path):
    spoof = pk.attack_2(
        final,
        small_task,
        spoof_steps=8,
        calibration=small_calibration.scaled(1e9),
        out=tmp_path / "spoof",
        progress=False,
    )
    assert spoof.counts() == {"update": 8}
    taken = pk.training_points(small_task).images
    stored = {bytes(image.numpy().tobytes()) for image in spoof.points().images}
    assert stored <= {bytes(image.numpy().tobytes()) for image in taken}


def test_the_stopping_test_saves_what_the_settled_batches_would_have_cost(
    small_task, final, small_calibration, tmp_path
):
    common = {"spoof_steps": 8, "seed": 1, "calibration": small_calibration, "iterations": 3, "progress": False}
    free = pk.attack_2(final, small_task, **common, stopping_test=False, out=tmp_path / "fixed")
    plan = make_plan(final, small_task, spoof_steps=8, seed=1).limited(small_calibration, 0.1)
    with applied(plan.conditions):
        row = settle_batch(Passes(plan.learner()), plan, 0, plan.first, iterations=0, stopping_test=True)[2]
        alone = row["movement_over_limit"]
    # γ just above what the first batch moves by itself: that one has to be left alone.
    stopping = pk.attack_2(
        final, small_task, **common, movement_limit=4 * 0.1 * 1.01 * alone, out=tmp_path / "stopping"
    )
    trace = stopping.trace().set_index("step")
    assert trace.loc[0, "evaluations"] == 0
    settled = trace.index[trace["evaluations"] == 0]
    assert len(settled) < 8, "γ leaves nothing to do: the comparison says nothing"
    originals = pk.training_points(small_task)
    for step in settled:
        mine = stopping.points().take(stopping.batches()[step])
        assert torch.equal(mine.images, originals.take(plan.batches[step]).images)
    assert free.counts()["objective"] == 8 * 3
    assert stopping.counts()["objective"] == trace["evaluations"].sum() <= 3 * (8 - len(settled))
    assert stopping.cost().gradient_evaluations < free.cost().gradient_evaluations
    assert stopping.cost().floating_point_operations < free.cost().floating_point_operations


@pytest.mark.parametrize("attack", [pk.attack_2, pk.attack_3])
def test_an_interval_whose_own_batches_end_within_the_share_of_delta_is_left_alone(
    attack, small_task, final, small_calibration, tmp_path
):
    common = {"spoof_steps": 8, "seed": 1, "iterations": 2, "progress": False}
    plain = pk.interpolation_only(final, small_task, spoof_steps=8, seed=1, progress=False, out=tmp_path / "plain")
    rows = replay(plain, small_task, pk.Conditions(), parts=("weights",))  # under the adversary's own draws
    ratios = (rows["error"] / looked_up(small_calibration.thresholds, rows)).groupby(rows["start"]).max()
    limit = small_calibration.scaled(float(ratios.mean()))  # one of the two intervals ends beyond, one within
    spoof = attack(
        final, small_task, **common, calibration=limit, leave_within=1.0, movement_limit=1e-3, out=tmp_path / "spoof"
    )
    worked = spoof.trace().groupby(spoof.trace()["step"] // 4 * 4)["evaluations"].sum()
    assert (worked > 0).to_dict() == (ratios > ratios.mean()).to_dict()
    untouched = int(ratios.idxmin())
    original = pk.training_points(small_task)
    for step in range(untouched, untouched + 4):
        mine = spoof.points().take(spoof.batches()[step])
        assert torch.equal(mine.images, original.take(plain.batches()[step]).images)
    assert not spoof.missed()  # the other needs few of the iterations, though no update keeps to γ


@pytest.mark.parametrize("attack", [pk.attack_2, pk.attack_3])
def test_an_interval_is_treated_only_until_it_ends_within_the_share_of_delta(
    attack, small_task, final, small_calibration, tmp_path
):
    common = {"spoof_steps": 8, "seed": 1, "iterations": 6, "movement_limit": 1e-3, "progress": False}

    def ratios(spoof):
        rows = replay(spoof, small_task, pk.Conditions(), parts=("weights",))  # under the adversary's own draws
        return (rows["error"] / looked_up(small_calibration.thresholds, rows)).groupby(rows["start"]).max()

    plain = pk.interpolation_only(final, small_task, spoof_steps=8, seed=1, progress=False, out=tmp_path / "plain")
    whole = attack(final, small_task, calibration=small_calibration, out=tmp_path / "whole", **common)
    limit = float(ratios(plain).min() + ratios(whole).max()) / 2  # more than nothing must be done, but not all
    within = {"calibration": small_calibration.scaled(limit), "leave_within": 1.0}
    spoof = attack(final, small_task, out=tmp_path / "spoof", **within, **common)
    assert (ratios(plain) > limit).all()
    assert (ratios(spoof) <= limit).all()
    assert 0 < spoof.trace()["evaluations"].sum() < whole.trace()["evaluations"].sum()
    assert spoof.counts()["objective"] < whole.counts()["objective"]
    assert not spoof.missed()
    assert whole.missed()  # γ itself is out of reach


def test_an_interval_that_ends_near_enough_behind_its_last_batch_is_settled(
    small_task, final, small_calibration, tmp_path
):
    asked = {"spoof_steps": 4, "seed": 3, "iterations": 3, "calibration": small_calibration, "progress": False}
    asked["movement_limit"] = 1e-6  # no batch keeps to that γ
    missed = pk.attack_2(final, small_task, **asked, out=tmp_path / "missed")
    assert missed.missed().startswith("4 of 4 updates do not end within γ")
    errors = replay(missed, small_task, pk.Conditions(), parts=("weights",))
    end = float((errors["error"] / looked_up(small_calibration.thresholds, errors)).max())
    near = pk.attack_2(final, small_task, **asked, leave_within=end * 1.0001, out=tmp_path / "near")
    assert near.trace()["settled"].fillna(True).all()
    assert near.missed() == ""
