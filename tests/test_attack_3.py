"""Attack III: the joint gradient and the joint update, against a loop over the batches, and what they cost."""

import sys

import numpy as np
import pytest
import torch

import polkit as pk
from polkit.adversary.attack_3 import at_once, joint_objective, mean_gradient, step_from, step_sizes
from polkit.adversary.perturb import Passes, squared_norm, weight_gradient
from polkit.adversary.plan import Batch, make_plan
from polkit.training.conditions import applied

EXACT = pk.Conditions(precision="float64")


@pytest.fixture(scope="module")
def final(small_proof):
    return small_proof.final_weights()


@pytest.fixture
def exact(small_task, final):
    """A learner in float64 at W_0 of a plan, with its batches, cut to four points each."""
    plan = make_plan(final, small_task, spoof_steps=4, seed=1, conditions=EXACT)
    with applied(EXACT):
        learner = plan.learner()
        learner.load(plan.first)
        yield plan, learner, [Batch(pk.Points(b.points.images[:4], b.points.labels[:4]), 7) for b in plan.interval(0)]


def check_slope(objective, images, rows):
    """An objective's gradient against central differences at a few pixels."""
    _, slope = objective(images.clone().requires_grad_())[:2]
    assert slope.abs().max() > 1e-6
    generator = np.random.default_rng(0)
    for place in [int(slope.abs().argmax()), *generator.integers(0, rows, 5)]:
        ends = []
        for sign in (1, -1):
            moved = images.clone()
            moved.view(-1)[place] += sign * 1e-5
            ends.append(objective(moved.requires_grad_())[0].item())
        expected = (ends[0] - ends[1]) / 2e-5
        assert float(slope.view(-1)[place]) == pytest.approx(expected, rel=2e-3, abs=1e-6)


def test_batches_that_go_through_the_model_together_are_normalised_apart(exact):
    _, learner, batches = exact
    points = pk.Points(*(torch.cat([getattr(b.points, name) for b in batches]) for name in ("images", "labels")))
    buffers = [value.clone() for value in learner.model.buffers()]
    together = learner.losses(points, learner.draw_shifts(16, 7, 7, 7, 7), 4)
    assert all(map(torch.equal, buffers, learner.model.buffers()))  # a replay does not see them together
    apart = torch.stack([learner.loss(batch.points, 7) for batch in batches])
    torch.testing.assert_close(together, apart)
    assert not torch.isclose(learner.loss(points, None), apart.mean())  # as one batch they would count otherwise


@pytest.mark.parametrize("several", [1, 2, 4])
def test_the_joint_gradient_too_however_many_batches_are_held_at_once(exact, several):
    plan, learner, batches = exact
    sizes = step_sizes(plan.task, 0)
    images = torch.stack([batch.points.images for batch in batches]).double() / 255 * 0.8 + 0.1
    passes = Passes(learner)
    check_slope(lambda shown: joint_objective(passes, shown, batches, sizes, several), images, images.numel())
    value, slope, mean = joint_objective(passes, images, batches, sizes, several)
    images.requires_grad_()
    pairs = zip(images, batches, strict=True)
    each = [weight_gradient(learner, pk.Points(shown, batch.points.labels), 7)[1:] for shown, batch in pairs]
    plain = [
        sum(size * part for size, part in zip(sizes, parts, strict=True)) / sum(sizes)
        for parts in zip(*each, strict=True)
    ]
    torch.testing.assert_close(mean, plain)
    torch.testing.assert_close(value, squared_norm(plain))
    torch.testing.assert_close(slope, torch.autograd.grad(squared_norm(plain), images)[0])


def test_pieces_of_one_size_share_the_batches_of_an_interval():
    assert [at_once(k) for k in (1, 4, 10, 20, 22, 100, 7, 13)] == [1, 4, 10, 10, 2, 10, 7, 1]


def test_without_momentum_the_joint_update_is_one_step_of_k_eta_along_the_mean_gradient(small_task, final):
    task = small_task.replace(momentum=0.0, weight_decay=0.0)
    plan = make_plan(final, task, spoof_steps=4, seed=1, conditions=EXACT)
    batches = [plan.batch(step) for step in range(4)]
    with applied(EXACT):
        learner = plan.learner()
        learner.load(plan.first)
        images = torch.stack([learner.unit_pixels(batch.points.images) for batch in batches])
        sizes = step_sizes(task, 0)
        _, mean = mean_gradient(Passes(learner), images, batches, sizes, 2)
        weights = step_from(task, plan.first.weights, mean, sizes)
        slopes = [weight_gradient(learner, b.points, b.augmentation_seed)[1:] for b in batches]
    for (name, value), *parts in zip(plan.first.weights.items(), *slopes, strict=True):
        torch.testing.assert_close(weights[name], value.double() - 4 * 0.05 * sum(parts) / 4, rtol=1e-9, atol=1e-12)


def test_with_momentum_the_sizes_are_what_sgd_does_to_constant_gradients(small_task):
    task = small_task.replace(weight_decay=0.0)
    slopes = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([weight], lr=0.05, momentum=0.9)
    for slope in slopes:
        weight.grad = slope[None].clone()
        optimiser.step()
    expected = -weight.item()
    assert sum(size * float(slope) for size, slope in zip(step_sizes(task, 0), slopes, strict=True)) == pytest.approx(
        expected
    )
    start = {"w": torch.zeros(1)}
    mean = [torch.tensor([1.0])]
    assert float(step_from(task, start, mean, step_sizes(task, 0))["w"]) == pytest.approx(-sum(step_sizes(task, 0)))


def test_the_cost_of_attack_3_by_hand(small_task, final, small_calibration, tmp_path, monkeypatch):
    common = {
        "spoof_steps": 8,
        "calibration": small_calibration,
        "progress": False,
        "stopping_test": False,
        "iterations": 3,
    }
    spoof = pk.attack_3(final, small_task, **common, out=tmp_path / "together")
    monkeypatch.setattr(sys.modules["polkit.adversary.attack_3"], "BATCHES_AT_ONCE", 1)
    apart = pk.attack_3(final, small_task, **common, out=tmp_path / "apart")
    units = pk.unit_costs(small_task)
    update, objective = (units[kind].floating_point_operations for kind in ("update", "objective"))
    assert spoof.counts() == {"update": 2 * 2 + 8, "objective": 2 * 3}
    assert spoof.cost().gradient_evaluations == 4 + 6 * 3 + 8  # a joint gradient counts once; the last replay does not
    assert spoof.cost().floating_point_operations == 4 * (4 * update + 6 * objective) + 8 * update
    assert apart.cost().floating_point_operations == 4 * ((4 + 6) * update + 6 * objective) + 8 * update
    assert (spoof.trace()["gradient_squared_after"] < spoof.trace()["gradient_squared_before"]).all()


def test_without_a_learning_rate_nothing_moves_and_nothing_is_to_be_done(
    small_task, final, small_calibration, tmp_path
):
    still = small_task.replace(learning_rate=0.0)
    settings = {"spoof_steps": 4, "calibration": None, "progress": False, "out": tmp_path / "spoof"}
    spoof = pk.attack_3(final, still, **settings)
    assert spoof.missed() == ""
    assert spoof.trace()["movement_over_limit"].tolist() == [0.0]
