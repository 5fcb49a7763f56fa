"""Adversarial optimisation, against the same computation written out plainly."""

import math

import numpy as np
import pytest
import torch

import polkit as pk
from polkit.adversary.perturb import Passes, Perturbation, Update, best_attempt, size, squared_norm, weight_gradient
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


def test_the_adversarial_gradient_is_that_of_finite_differences(exact):
    _, learner, batches = exact

    def objective(images):
        value = squared_norm(weight_gradient(learner, pk.Points(images, batches[0].points.labels), 7)[1:])
        return value, torch.autograd.grad(value, images)[0]

    check_slope(objective, batches[0].points.images.double() / 255 * 0.8 + 0.1, 4 * 64)


def test_the_passes_are_plain_double_backwards(exact):
    _, learner, batches = exact
    passes, labels = Passes(learner), batches[0].points.labels
    images = (batches[0].points.images.double() / 255).requires_grad_()
    loss, *gradient = weight_gradient(learner, pk.Points(images, labels), 7)
    value = squared_norm(gradient)
    wanted = torch.autograd.grad(value, images, retain_graph=True)
    points = pk.Points(images.detach(), labels)
    whole, part = torch.ones(1).double(), torch.full((1,), 0.15).double()
    torch.testing.assert_close(passes.objective(points, [7], whole), (value, *wanted, *gradient))
    torch.testing.assert_close(passes.gradient(points, [7], whole), (loss[None], *gradient))
    # Of ⟨share · ∂L/∂W, ∂L/∂W⟩ with the right side fixed the slope is share / 2 times that of the square.
    along = passes.slope_along(points, [7], part, *(value.detach() for value in gradient))
    torch.testing.assert_close(along[0], 0.075 * wanted[0])


def test_the_largest_entry_of_the_gradient_may_count_too(exact):
    _, learner, batches = exact
    labels = batches[0].points.labels
    images = (batches[0].points.images.double() / 255).requires_grad_()
    gradient = weight_gradient(learner, pk.Points(images, labels), 7)[1:]
    joined = torch.cat([part.flatten() for part in gradient])
    value = (joined**2).sum() + 50 * torch.linalg.vector_norm(joined, 8) ** 2
    passes, whole = Passes(learner, linf_weight=50.0), torch.ones(1).double()
    found = passes.objective(pk.Points(images.detach(), labels), [7], whole)
    torch.testing.assert_close(found[0], value)
    torch.testing.assert_close(found[1], torch.autograd.grad(value, images)[0])
    assert joined.abs().max() <= torch.linalg.vector_norm(joined, 8) < 3 * joined.abs().max()


def plain_images(learner, batch, iterations):
    """X + R after so many L-BFGS iterations on ‖∇‖² + ‖R‖², written out."""
    originals = batch.points.images.double() / 255
    noise = torch.zeros_like(originals, requires_grad=True)
    optimiser = torch.optim.LBFGS([noise], max_iter=1, history_size=10, tolerance_grad=0.0, tolerance_change=0.0)

    def closure():
        optimiser.zero_grad()
        shown = pk.Points((originals + noise).clamp(0, 1), batch.points.labels)
        gradient = torch.autograd.grad(learner.loss(shown, 7), list(learner.model.parameters()), create_graph=True)
        value = sum((part**2).sum() for part in gradient) + 1e-3 * (noise**2).sum()
        value.backward(inputs=[noise])
        return value

    for _ in range(iterations):
        optimiser.step(closure)
    return ((originals + noise).clamp(0, 1) * 255).round().to(torch.uint8)


class Told:
    """What a `Perturbation` asks, noted: images within [0, 1], and an update that never fits until it is told to."""

    def __init__(self, learner, batch):
        self.learner, self.batch, self.values, self.tried, self.over_limit = learner, batch, [], [], 2.0
        self.seeds = []

    def objective(self, images, batches):
        images.requires_grad_()
        self.seeds.append(batches[0].augmentation_seed)
        assert 0 <= images.min().item() <= images.max().item() <= 1
        points = pk.Points(images[0], self.batch.points.labels)
        value = squared_norm(weight_gradient(self.learner, points, batches[0].augmentation_seed)[1:])
        self.values.append(value.item())
        return value, torch.autograd.grad(value, images)[0], self.over_limit

    def try_batches(self, batches):
        self.tried.append(batches[0].points.images)
        return Update(None, 0.0, 0.0, self.over_limit)

    def loop(self, plan, **budget):
        return Perturbation(self.learner, plan.first, [self.batch], self.try_batches, self.objective, **budget)


def test_the_perturbation_is_a_plain_l_bfgs_on_clamped_pixels(exact):
    plan, learner, batches = exact
    told = Told(learner, batches[0])
    (made,), _, row = told.loop(plan, iterations=5, stopping_test=True).result()
    assert torch.equal(made.points.images, plain_images(learner, batches[0], 5))
    assert torch.equal(told.tried[0], batches[0].points.images)  # the update without noise
    assert torch.equal(told.tried[1], made.points.images)
    assert len(told.tried) == 2  # the other only when the budget is spent
    assert row["iterations"] == row["evaluations"] == len(told.values) == 5
    assert min(told.values) < 0.95 * told.values[0]


def test_images_that_will_do_stay_as_they_were_evaluated(exact):
    plan, learner, batches = exact
    told = Told(learner, batches[0])
    loop = told.loop(plan, iterations=9, stopping_test=True)
    loop.improve()
    standing = loop.perturbed()[0].points.images
    told.over_limit = 0.5
    loop.improve()
    assert torch.equal(loop.batches[0].points.images, standing)
    assert (len(told.tried), loop.done, loop.settled) == (2, 2, True)


def test_where_only_the_estimate_fits_the_loop_goes_on(exact):
    plan, learner, batches = exact
    told = Told(learner, batches[0])
    loop = told.loop(plan, iterations=4, stopping_test=True)
    told.over_limit, loop.try_batches = 0.5, lambda rounded: Update(None, 0.0, 0.0, 2.0)
    for done in range(4):
        loop.improve()
        assert torch.equal(loop.batches[0].points.images, plain_images(learner, batches[0], done))
    assert not loop.settled


def test_an_update_that_fits_needs_no_noise_unless_all_iterations_are_asked_for(exact):
    plan, learner, batches = exact
    told = Told(learner, batches[0])
    told.over_limit = 1.0
    (left,), _, row = told.loop(plan, iterations=3, stopping_test=True).result()
    assert left is batches[0]
    assert (row["iterations"], told.values) == (0, [])
    assert told.loop(plan, iterations=3, stopping_test=False).result()[2]["iterations"] == 3


def test_the_objective_is_the_mean_over_draws_of_the_augmentation(exact):
    plan, learner, batches = exact
    told = Told(learner, batches[0])
    loop = told.loop(plan, iterations=1, stopping_test=False, draws=3)
    mean = loop._evaluate().item()
    assert told.seeds[0] == batches[0].augmentation_seed
    assert len(set(told.seeds)) == len(told.values) == 3
    assert mean == pytest.approx(sum(told.values) / 3)
    slopes = []
    for seed in told.seeds:
        images = (batches[0].points.images.double() / 255).requires_grad_()
        value = squared_norm(weight_gradient(learner, pk.Points(images, batches[0].points.labels), seed)[1:])
        slopes.append(torch.autograd.grad(value, images)[0])
    inside = (images > 0) & (images < 1)  # elsewhere the projection stops it
    torch.testing.assert_close(loop.noise.grad[0][inside], (sum(slopes) / 3)[inside])


@pytest.mark.parametrize(
    ("misses", "settled", "retries", "chosen", "taken"),
    [
        ([0.5], None, 3, 0, 1),
        ([3.0, 2.0, 0.9, 0.1], None, 3, 2, 3),
        ([3.0, 2.0, 5.0], None, 2, 1, 3),
        ([3.0, 4.0, 2.0], 1, 2, 1, 2),
        ([3.0, 0.1], None, 0, 0, 1),
        ([math.nan, 0.5], None, 3, 1, 2),
        ([math.nan, 3.0], None, 1, 1, 2),
    ],
)
def test_fresh_batches_are_tried_until_one_fits_and_the_best_is_kept(misses, settled, retries, chosen, taken):
    asked = []

    def optimise(attempt):
        asked.append(attempt)
        row = {"evaluations": 10, "settled": attempt == settled or misses[attempt] <= 1}
        return [attempt], Update(None, 0.0, 0.0, misses[attempt]), row

    batches, update, row = best_attempt(optimise, retries)
    assert (batches, update.over_limit) == ([chosen], misses[chosen])
    assert asked == list(range(taken))
    assert (row["evaluations"], row["attempt"]) == (10 * taken, chosen)


def test_tiny_gradients_have_a_finite_slope():
    gradient = torch.full((10,), 1e-7, requires_grad=True)
    (slope,) = torch.autograd.grad(size([gradient], linf_weight=4.0), gradient)
    assert slope.isfinite().all()
