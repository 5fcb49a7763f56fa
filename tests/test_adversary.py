"""The attacks: what they write, what it costs, how far it moves, and the gradient they rest on."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch

import polkit as pk
from polkit.adversary.attack_2 import settle_batch
from polkit.adversary.attack_3 import joint_objective, joint_update, step_from, step_sizes
from polkit.adversary.forge import chained_buffers
from polkit.adversary.perturb import Batch, Perturbation, passes_of, squared_norm, weight_gradient
from polkit.adversary.plan import make_plan
from polkit.training import Checkpoint
from polkit.training.conditions import applied
from polkit.training.models import Distribution, buffer_decays
from polkit.training.step import Learner

EXACT = pk.Conditions(precision="float64")
ATTACKS = {"attack_2": pk.attack_2, "attack_3": pk.attack_3, "interpolation_only": pk.interpolation_only}


@pytest.fixture(scope="module")
def final(small_proof):
    return small_proof.final_weights()


@pytest.fixture
def exact(small_task, final):
    """A learner in float64 at W_0 of a plan, with its batches."""
    plan = make_plan(final, small_task, spoof_steps=4, seed=1, conditions=EXACT)
    with applied(EXACT):
        learner = Learner(small_task, EXACT)
        learner.load(plan.first)
        batches = [plan.batch(step) for step in range(4)]
        yield plan, learner, [Batch(pk.Points(b.points.images[:4], b.points.labels[:4]), 7) for b in batches]


def test_the_sorted_w_0_is_a_true_draw_that_passes_the_test_and_lies_nearer(small_task, final):
    first, drawn = pk.sorted_initialisation(small_task, final, 1), pk.initial_checkpoint(small_task, 1)
    assert pk.test_initialisation(small_task, first)["passed"].all()
    near, far = (pk.distances(weights, final.weights) for weights in (first.weights, drawn.weights))
    assert near["l2"] < 0.5 * far["l2"]
    for name, value in first.weights.items():  # the largest lies where W_T is largest, and so on
        order = final.weights[name].flatten().argsort()
        assert (value.flatten()[order].diff() >= 0).all(), name
    assert first.weights["norm.weight"].eq(1).all()
    assert not torch.equal(
        first.weights["conv.weight"], pk.sorted_initialisation(small_task, final, 2).weights["conv.weight"]
    )


def test_the_path_is_straight_equally_divided_and_exact_at_its_ends(small_task, final):
    first = pk.sorted_initialisation(small_task, final, 1)
    chain = [pk.on_the_path(first, final, number / 4) for number in range(5)]
    assert set(pk.distances(chain[0], first.weights).values()) == {0.0}
    assert set(pk.distances(chain[4], final.weights).values()) == {0.0}
    whole = pk.distances(chain[0], chain[4])
    for left, right in pairwise(chain):
        piece = pk.distances(left, right)
        assert [piece[name] for name in ("l1", "l2", "linf")] == pytest.approx(
            [whole[name] / 4 for name in ("l1", "l2", "linf")], rel=1e-4
        )


@pytest.mark.parametrize("attack", ATTACKS)
def test_workers_share_the_intervals_and_write_the_very_same_spoof(attack, small_task, final, tmp_path):
    # 10 intervals are shared by processes, 3 by threads.
    steps = 40 if attack == "interpolation_only" else 12
    alone, shared = (
        ATTACKS[attack](
            final, small_task, spoof_steps=steps, seed=1, workers=workers, out=tmp_path / f"{workers}", progress=False
        )
        for workers in (1, 2)
    )
    assert alone.manifest == shared.manifest  # with the digest of every file
    assert alone.counts() == shared.counts()
    one, two = alone.cost(), shared.cost()
    assert one.floating_point_operations == two.floating_point_operations
    assert one.gradient_evaluations == two.gradient_evaluations


def test_buffers_chained_by_arithmetic_are_those_of_one_long_run(exact):
    plan, learner, batches = exact
    learner.load(plan.first)
    halves = []
    for begin in (0, 2):
        for step in (begin, begin + 1):
            learner.update(batches[step].points, step=step, augmentation_seed=7)
        halves.append(learner.snapshot())
    learner.load(dataclasses.replace(halves[0], buffers=plan.first.buffers))
    for step in (2, 3):
        learner.update(batches[step].points, step=step, augmentation_seed=7)
    decays = buffer_decays(learner.model)
    assert list(decays) == list(plan.first.buffers)
    chained = chained_buffers(plan.first.buffers, halves[0].buffers, learner.snapshot().buffers, decays, 2)
    for name, value in halves[1].buffers.items():
        torch.testing.assert_close(chained[name], value, rtol=1e-12, atol=1e-12)
        assert not torch.allclose(learner.snapshot().buffers[name], value)


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


@pytest.mark.parametrize("at_once", [1, 3, 4])
def test_the_joint_gradient_too_however_many_batches_are_held_at_once(exact, at_once):
    plan, learner, batches = exact
    sizes = step_sizes(plan.task, 0)
    images = torch.stack([batch.points.images for batch in batches]).double() / 255 * 0.8 + 0.1
    passes = passes_of(learner)
    check_slope(lambda shown: joint_objective(passes, shown, batches, sizes, at_once), images, images.numel())
    whole = joint_objective(passes, images.clone().requires_grad_(), batches, sizes, 4)
    parts = joint_objective(passes, images.clone().requires_grad_(), batches, sizes, at_once)
    torch.testing.assert_close(parts[:2], whole[:2])


def test_without_momentum_the_joint_update_is_one_step_of_k_eta_along_the_mean_gradient(small_task, final):
    task = small_task.replace(momentum=0.0, weight_decay=0.0)
    plan = make_plan(final, task, spoof_steps=4, seed=1, conditions=EXACT)
    batches = [plan.batch(step) for step in range(4)]
    with applied(EXACT):
        learner = Learner(task, EXACT)
        weights, _ = joint_update(passes_of(learner), plan, plan.first, batches, step_sizes(task, 0))
        learner.load(plan.first)
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


def test_the_perturbation_keeps_to_pixels_and_lowers_the_objective(exact):
    _, learner, batches = exact
    values = []

    def objective(images):
        value = squared_norm(weight_gradient(learner, pk.Points(images, batches[0].points.labels), 7)[1:])
        values.append(value.item())
        assert 0 <= images.min().item() <= images.max().item() <= 1
        return value, torch.autograd.grad(value, images)[0], None

    originals = batches[0].points.images.double() / 255
    perturbation = Perturbation(originals, objective, noise_weight=0.0)
    assert torch.equal(perturbation.images(), batches[0].points.images)
    for _ in range(10):
        perturbation.improve()
    assert perturbation.evaluations == len(values) == 10
    assert min(values) < 0.9 * values[0]
    assert perturbation.images().dtype == torch.uint8
    standing = perturbation.images()
    assert perturbation.improve(lambda _: True)
    assert torch.equal(perturbation.images(), standing)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_spoof_is_a_folder_like_any_proof_and_its_distance_is_the_paths(
    name, small_task, final, small_proof, small_calibration, tmp_path
):
    spoof = ATTACKS[name](
        final, small_task, spoof_steps=16, calibration=small_calibration, out=tmp_path / "spoof", progress=False
    )
    assert set(spoof.manifest) == set(small_proof.manifest)
    listed = {file for file in spoof.manifest["files"] if file != "points.safetensors"}
    assert listed == set(small_proof.manifest["files"])
    points = spoof.points()
    assert (points is None) == (name == "interpolation_only")
    if points is not None:
        assert points.images.dtype == torch.uint8
        assert len(points) == 16 * 64
        assert spoof.batches().tolist() == np.arange(16 * 64).reshape(16, 64).tolist()
    last = spoof.checkpoint(16)
    for part in ("weights", "buffers"):
        assert all(torch.equal(value, final.parts()[part][key]) for key, value in last.parts()[part].items())
    verdict = pk.verify(spoof, small_calibration.scaled(1e6), top_q="all")
    assert verdict.accepted, verdict  # everything but the distance is in order
    piece = pk.distances(spoof.checkpoint(0).weights, final.weights)["l2"] / 4
    replayed = verdict.intervals.query("part == 'weights' and distance == 'l2'")
    assert replayed["magnitude"].tolist() == pytest.approx([piece] * 4, rel=1e-3)
    stored = sum(file.stat().st_size for file in spoof.folder.rglob("*") if file.is_file())
    assert spoof.cost().stored_bytes == stored


def test_attack_2_settles_batches_within_gamma_as_they_are_stored(small_task, final, small_calibration):
    settings = {"iterations": 20, "stopping_test": True, "noise_weight": 1e-4}
    known = {"spoof_steps": 16, "seed": 1, "calibration": small_calibration}
    plan = make_plan(final, small_task, **known, movement_limit=0.5)
    with applied(plan.conditions):
        learner = Learner(small_task, plan.conditions)
        untouched = settle_batch(passes_of(learner), plan, 0, plan.first, **settings | {"iterations": 0})[2]
        limit = 0.5 * 0.95 * untouched["movement_over_limit"]  # 5 % less than the batch moves by itself
        plan = make_plan(final, small_task, **known, movement_limit=limit)
        batch, after, row = settle_batch(passes_of(learner), plan, 0, plan.first, **settings)
        learner.load(plan.first)
        learner.update(batch.points, step=0, augmentation_seed=batch.augmentation_seed)
        moved = pk.distances(learner.snapshot().weights, plan.first.weights)
    assert batch.points.images.dtype == torch.uint8
    assert set(pk.distances(learner.snapshot().weights, after.weights).values()) == {0.0}
    over = max(moved[name] / (limit * small_calibration.thresholds["weights"][name]) for name in pk.DISTANCES)
    assert row["movement_over_limit"] == pytest.approx(over)
    assert row["movement_over_limit"] <= 1
    assert row["gradient_squared_after"] < row["gradient_squared_before"]
    assert 0 < row["evaluations"] <= 20


def test_the_cost_of_attack_2_by_hand(small_task, final, small_calibration, tmp_path):
    common = {"spoof_steps": 8, "calibration": small_calibration, "progress": False, "movement_limit": 0.3}
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


def test_the_cost_of_attack_3_by_hand(small_task, final, small_calibration, tmp_path):
    common = {
        "spoof_steps": 8,
        "calibration": small_calibration,
        "progress": False,
        "stopping_test": False,
        "iterations": 3,
    }
    spoof = pk.attack_3(final, small_task, **common, out=tmp_path / "together")
    apart = pk.attack_3(final, small_task, **common, batches_at_once=1, out=tmp_path / "apart")
    units = pk.unit_costs(small_task)
    update, objective = (units[kind].floating_point_operations for kind in ("update", "objective"))
    assert spoof.counts() == {"update": 2 * 2 + 8, "objective": 2 * 3}
    assert spoof.cost().gradient_evaluations == 4 + 6 * 3 + 8  # a joint gradient counts once; the last replay does not
    assert spoof.cost().floating_point_operations == 4 * (4 * update + 6 * objective) + 8 * update
    assert apart.cost().floating_point_operations == 4 * ((4 + 6) * update + 6 * objective) + 8 * update
    assert (spoof.trace()["gradient_squared_after"] < spoof.trace()["gradient_squared_before"]).all()


def test_interpolation_only_pays_one_update_a_batch(small_task, final, tmp_path):
    spoof = pk.interpolation_only(final, small_task, spoof_steps=8, out=tmp_path / "spoof", progress=False)
    assert spoof.counts() == {"update": 8}
    assert spoof.cost().gradient_evaluations == 8


def test_a_path_that_begins_with_training_errs_where_it_begins_and_costs_no_more(
    small_task, final, small_calibration, tmp_path
):
    common = {"spoof_steps": 16, "seed": 1, "progress": False}
    plain = pk.interpolation_only(final, small_task, **common, out=tmp_path / "plain")
    begun = pk.interpolation_only(final, small_task, **common, trained_steps=8, out=tmp_path / "begun")
    assert begun.counts() == plain.counts() == {"update": 16}
    assert begun.cost().floating_point_operations == plain.cost().floating_point_operations
    exact = dataclasses.replace(small_calibration, conditions=pk.Conditions())
    errors = pk.verify(begun, exact, top_q="all").intervals.groupby("start")["error"].max()
    assert errors[[0, 4]].tolist() == [0, 0]
    assert errors[[8, 12]].min() > 0
    chain = [begun.checkpoint(step).weights for step in begun.checkpoint_steps]
    assert set(pk.distances(chain[0], plain.checkpoint(0).weights).values()) == {0.0}
    assert set(pk.distances(chain[4], final.weights).values()) == {0.0}
    there, back = (pk.distances(chain[3], chain[end]) for end in (2, 4))
    whole = pk.distances(chain[2], chain[4])
    for name in ("l1", "l2", "linf"):
        assert [there[name], back[name]] == pytest.approx([whole[name] / 2] * 2, rel=1e-4)
    for steps in (3, 16, -4):
        with pytest.raises(ValueError, match=f"{steps} trained steps are not one or more intervals of k = 4"):
            pk.interpolation_only(final, small_task, **common, trained_steps=steps, out=tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_attack_1_fails_in_its_last_interval_by_far(small_task, final, small_calibration, tmp_path):
    spoof = pk.attack_1(
        final,
        small_task,
        spoof_steps=16,
        calibration=small_calibration,
        iterations=3,
        out=tmp_path / "spoof",
        progress=False,
    )
    verdict = pk.verify(spoof, small_calibration, top_q=1)
    assert {(reason.kind, reason.step) for reason in verdict.reasons} == {("error", 12)}
    missed = spoof.trace().iloc[0]["missed_after"]
    assert missed > 3 * small_calibration.thresholds["weights"]["l2"]
    assert spoof.counts() == {"update": 15 + 2, "objective": 3}
    assert len(spoof.points()) == 256 + 64  # D, and the one batch that was changed


@pytest.mark.parametrize("attack", [pk.attack_1, pk.attack_2, pk.attack_3, pk.interpolation_only])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spoof_steps": 10}, "T' = 10 is not a multiple of the checkpoint interval k = 4"),
        ({"spoof_steps": 2}, "T' = 2 steps are fewer than one checkpoint interval of k = 4"),
    ],
)
def test_a_budget_no_spoof_can_have_is_one_clear_sentence(attack, settings, message, small_task, final, tmp_path):
    with pytest.raises(ValueError, match=message):
        attack(final, small_task, **settings, out=tmp_path / "spoof")
    assert list(tmp_path.iterdir()) == []


def test_other_mistakes_are_one_clear_sentence_too(small_task, final, small_calibration, tmp_path):
    def attempt(weights=final, attack=pk.attack_3, **settings):
        attack(weights, small_task, **{"spoof_steps": 4, "out": tmp_path / "spoof", "progress": False} | settings)

    with pytest.raises(ValueError, match="one update must move less than δ"):
        attempt(movement_limit=1.0)
    with pytest.raises(ValueError, match="the share lies above 0"):
        attempt(movement_limit=0.0)
    with pytest.raises(ValueError, match="the reserve is a share of γ"):
        attempt(reserve=1.0)
    with pytest.raises(ValueError, match="calibration is not for this task"):
        attempt(calibration=dataclasses.replace(small_calibration, task=pk.task("digits")))
    short = Checkpoint({**final.weights, "head.bias": torch.zeros(3)}, final.buffers, {})
    with pytest.raises(ValueError, match=r"head\.bias has shape \(3,\), its model needs \(10,\)"):
        attempt(weights=short)
    attempt(attack=pk.interpolation_only)
    with pytest.raises(FileExistsError, match="exists already"):
        attempt(attack=pk.interpolation_only)


def test_the_non_overlapping_half_makes_a_spoof_of_the_same_task(tmp_path):
    whole = pk.task("digits:first-half").replace(epochs=2, train_size=256, checkpoint_interval=4)
    other = pk.task("digits:second-half").replace(epochs=2, train_size=256, checkpoint_interval=4)
    proof = pk.prove(whole, out=tmp_path / "proof", progress=False)
    calibration = pk.calibrate(proof, replays=2, workers=1, out=tmp_path / "c.json", progress=False)
    spoof = pk.interpolation_only(proof.final_weights(), other, spoof_steps=8, out=tmp_path / "s", progress=False)
    verdict = pk.verify(spoof, calibration.scaled(1e6), top_q="all")
    assert verdict.accepted, verdict


def test_the_sorted_w_0_holds_the_very_numbers_of_its_draws(small_task, final, monkeypatch):
    drawn, draw = [], Distribution.draw

    def recorded(self, shape, generator):
        drawn.append(draw(self, shape, generator))
        return drawn[-1].clone()

    monkeypatch.setattr(Distribution, "draw", recorded)
    first = pk.sorted_initialisation(small_task, final, 1)
    assert len(drawn) == len(first.weights)
    for value, numbers in zip(first.weights.values(), drawn, strict=True):
        assert torch.equal(value.flatten().sort().values, numbers.flatten().sort().values)


def test_fewer_steps_mean_longer_pieces_of_the_same_path(small_task, final, tmp_path):
    common = {"seed": 1, "conditions": EXACT, "progress": False}
    short, long = (
        pk.interpolation_only(final, small_task, spoof_steps=steps, **common, out=tmp_path / str(steps))
        for steps in (8, 16)
    )
    pieces = {
        spoof.steps: [
            pk.distances(spoof.checkpoint(t).weights, spoof.checkpoint(t + 4).weights)["l2"]
            for t in spoof.checkpoint_steps[:-1]
        ]
        for spoof in (short, long)
    }
    whole = pk.distances(short.checkpoint(0).weights, final.weights)["l2"]
    assert pieces[8] == pytest.approx([whole / 2] * 2, rel=1e-3)
    assert pieces[16] == pytest.approx([whole / 4] * 4, rel=1e-3)


def test_the_stopping_test_saves_what_the_settled_batches_would_have_cost(
    small_task, final, small_calibration, tmp_path
):
    common = {"spoof_steps": 8, "seed": 1, "calibration": small_calibration, "iterations": 3, "progress": False}
    free = pk.attack_2(final, small_task, **common, stopping_test=False, out=tmp_path / "fixed")
    plan = make_plan(final, small_task, spoof_steps=8, seed=1, calibration=small_calibration, movement_limit=0.1)
    with applied(plan.conditions):
        learner = Learner(small_task, plan.conditions)
        settings = {"iterations": 0, "stopping_test": True, "noise_weight": 1e-3}
        alone = settle_batch(passes_of(learner), plan, 0, plan.first, **settings)[2]["movement_over_limit"]
    # γ just above what the first batch moves by itself: that one has to be left alone.
    stopping = pk.attack_2(final, small_task, **common, movement_limit=0.1 * 1.01 * alone, out=tmp_path / "stopping")
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
