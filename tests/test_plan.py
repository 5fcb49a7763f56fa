"""What an adversary decides: the batches, the limits, and what no spoof can have."""

import dataclasses
import math

import pytest
import torch

import polkit as pk
from polkit.adversary.plan import make_plan
from polkit.training import Checkpoint


@pytest.fixture(scope="module")
def final(small_proof):
    return small_proof.final_weights()


@pytest.mark.parametrize("attack", [pk.attack_1, pk.attack_2, pk.attack_3, pk.interpolation_only])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spoof_steps": 10}, "T' = 10 is no multiple of the checkpoint interval k = 4, from k up"),
        ({"spoof_steps": 2}, "T' = 2 is no multiple of the checkpoint interval k = 4, from k up"),
        ({"spoof_steps": 4 * 10**6}, "T' = 4000000 is far above T = 16: 640 steps are the most that are forged"),
        ({"spoof_steps": 644}, "T' = 644 is far above T = 16"),
        ({"spoof_steps": 8.0}, "T' must be a whole number, not 8.0"),
    ],
)
def test_a_budget_no_spoof_can_have_is_one_clear_sentence(attack, settings, message, small_task, final, tmp_path):
    with pytest.raises(ValueError, match=message):
        attack(final, small_task, **settings, out=tmp_path / "spoof")
    assert list(tmp_path.iterdir()) == []


def test_other_mistakes_are_one_clear_sentence_too(small_task, final, small_calibration, tmp_path):
    def attempt(weights=final, attack=pk.attack_3, **settings):
        attack(weights, small_task, **{"spoof_steps": 4, "out": tmp_path / "spoof", "progress": False} | settings)

    for wrong in (0.0, 1.1):
        with pytest.raises(ValueError, match="an update must move less than δ, by a share above 0 and up to 1"):
            attempt(movement_limit=wrong)
    with pytest.raises(TypeError, match="unexpected keyword argument 'calibration'"):
        attempt(attack=pk.borrowed_momentum, calibration=small_calibration)
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'spoof_steps'"):
        pk.attack_2(final, small_task)
    with pytest.raises(ValueError, match="calibration is not for this task"):
        attempt(calibration=dataclasses.replace(small_calibration, task=pk.task("digits")))
    short = Checkpoint({**final.weights, "head.bias": torch.zeros(3)}, final.buffers, {})
    with pytest.raises(ValueError, match=r"head\.bias has shape \(3,\), its model needs \(10,\)"):
        attempt(weights=short)
    attempt(attack=pk.interpolation_only)
    with pytest.raises(FileExistsError, match="exists already"):
        attempt(attack=pk.interpolation_only)


def test_limits_are_shares_of_delta_or_of_the_paths_spacing(small_task, final, small_calibration):
    plan = make_plan(final, small_task, spoof_steps=16, seed=1)
    limited, paced = plan.limited(small_calibration, 0.6, updates=4), plan.limited(None)
    assert limited.thresholds == small_calibration.thresholds["weights"]
    for name, delta in limited.thresholds.items():
        assert limited.limits[name] == pytest.approx(0.6 * delta / (16 if name == "cos" else 4))
    whole, spacing = pk.distances(plan.first.weights, final.weights), paced.thresholds
    for name in ("l1", "l2", "linf"):
        assert spacing[name] == pytest.approx(whole[name] / 4, rel=1e-4)
    assert paced.over_limit(plan.weights_at(4), plan.first.weights) == pytest.approx(1, rel=1e-3)


def test_updates_that_keep_to_gamma_keep_to_delta_together(small_task, final, small_calibration):
    """Four equal moves the same way, each of γ in the distance that binds, end within the share of δ in every one."""
    plan = make_plan(final, small_task, spoof_steps=16, seed=1).limited(small_calibration, 0.6, updates=4)
    origin, way = plan.first.weights, plan.weights_at(1)
    for only in pk.DISTANCES:
        alone = dataclasses.replace(plan, limits={only: plan.limits[only]})

        def moved(times, scale):
            return {name: value + times * scale * (way[name] - value) for name, value in origin.items()}

        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if alone.over_limit(moved(1, middle), origin) <= 1 else (low, middle)
        assert pk.distances(moved(4, low), origin)[only] <= 0.6 * 1.02 * plan.thresholds[only]
        assert pk.distances(moved(4, low), origin)[only] >= 0.6 * 0.9 * plan.thresholds[only]


def test_w_0_may_keep_the_trained_normalisation_and_nothing_else_of_w_t(small_task, final):
    plan = make_plan(final, small_task, spoof_steps=8, seed=1)
    kept = make_plan(final, small_task, spoof_steps=8, seed=1, keep_normalisation=True).first.weights
    same = {name for name, value in kept.items() if torch.equal(value, final.weights[name])}
    assert same == {name for name in kept if "norm" in name}
    assert all(torch.equal(kept[name], plan.first.weights[name]) for name in kept.keys() - same)
    table = pk.test_initialisation(small_task, dataclasses.replace(plan.first, weights=kept))
    assert set(table.loc[~table["passed"], "tensor"]) == same  # whoever looks, sees it


def test_other_weights_limits_or_w_0_are_other_facts(small_task, final):
    plan = make_plan(final, small_task, spoof_steps=8, seed=1)
    same = make_plan(final, small_task, spoof_steps=8, seed=1, out="elsewhere", progress=False)
    assert plan.facts() == same.facts()
    moved = Checkpoint({name: value + 1e-3 for name, value in final.weights.items()}, final.buffers, {})
    others = [plan.fresh(), plan.limited(None), plan.paced([(0, 0), (0.5, 0.9), (1, 1)])]
    others.append(make_plan(moved, small_task, spoof_steps=8, seed=1))
    facts = [plan.facts(), *(other.facts() for other in others)]
    assert all(facts.count(each) == 1 for each in facts)


@pytest.mark.parametrize("attack", [pk.attack_1, pk.attack_2, pk.attack_3])
def test_the_original_batch_is_the_one_that_was_perturbed(small_task, small_proof, tmp_path, attack):
    settings = {} if attack is pk.attack_1 else {"movement_limit": 1e-4}  # so that every batch is treated
    spoof = attack(
        small_proof.final_weights(), small_task, spoof_steps=8, seed=5, out=tmp_path / "s", progress=False, **settings
    )
    published, original = spoof.points().take(spoof.batches()[7]), pk.original_batch(small_task, 7, seed=5)
    assert (published.labels == original.labels).all()
    change = (published.images.int() - original.images.int()).abs()
    assert 0 < change.float().mean() < 60
    other = pk.original_batch(small_task, 6, seed=5).images.int()
    assert change.float().mean() < (published.images.int() - other).abs().float().mean()


@pytest.mark.parametrize(
    "knots", [[(0.3, 0.9), (0.6, 0.2)], [(0.5, 3.0)], [(0.5, -1.0)], [(0.5, math.nan)], [(0.6, 0.2), (0.3, 0.9)]]
)
def test_a_pace_rises_in_both_steps_and_way(small_task, small_proof, knots):
    plan = make_plan(small_proof.final_weights(), small_task, spoof_steps=16)
    with pytest.raises(ValueError, match="its knots must rise"):
        plan.paced([(0, 0), *knots, (1, 1)])


def test_no_update_keeps_to_a_share_of_nothing(small_task, small_proof, small_calibration):
    plan = make_plan(small_proof.final_weights(), small_task, spoof_steps=16)
    with pytest.raises(ValueError, match=r"δ is 0.0 in l1: no update can keep to a share of it"):
        plan.limited(small_calibration.scaled(0))
