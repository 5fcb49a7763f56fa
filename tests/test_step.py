"""Steps against plain autograd, and what a Learner loads, keeps and gives back."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import polkit as pk
from polkit.training import Checkpoint, Learner, applied, augment, build_model

EXACT = pk.Conditions(precision="float64")


def test_update_is_a_hand_written_sgd_step(small_task):
    task = small_task.replace(shift=0)
    points, start = pk.training_points(task), pk.initial_checkpoint(task, 3)
    model = build_model(task).double()
    weights = {name: value.double().requires_grad_() for name, value in start.weights.items()}
    momentum = {name: torch.zeros_like(value) for name, value in weights.items()}
    with applied(EXACT):
        learner = Learner(task, EXACT)
        learner.load(start)
        for step in range(10):  # the learning rate drops at step 8, epoch 2 of 4
            batch = points.take(np.arange(step * 16, step * 16 + 64))
            learner.update(batch, step=step, augmentation_seed=0)
            images = (batch.images.double() / 255 - 0.305) / 0.376
            loss = F.cross_entropy(torch.func.functional_call(model, weights, (images,)), batch.labels)
            gradient = torch.autograd.grad(loss, list(weights.values()))
            rate = 0.05 if step < 8 else 0.005
            for (name, value), slope in zip(list(weights.items()), gradient, strict=True):
                momentum[name] = 0.9 * momentum[name] + slope + 1e-4 * value.detach()
                weights[name] = (value.detach() - rate * momentum[name]).requires_grad_()
        reached = learner.snapshot()
    for name, value in weights.items():
        torch.testing.assert_close(reached.weights[name], value.detach(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(reached.momentum[name], momentum[name], rtol=1e-9, atol=1e-12)


def test_a_loaded_checkpoint_comes_back_bit_for_bit(small_proof):
    recorded = small_proof.checkpoint(8)
    learner = Learner(small_proof.task, pk.Conditions())
    learner.load(recorded)
    for part, tensors in learner.snapshot().parts().items():
        assert all(torch.equal(value, recorded.parts()[part][name]) for name, value in tensors.items()), part


def test_update_sees_the_batch_as_its_seed_augments_it(small_task):
    points = pk.training_points(small_task).take(range(64))
    shown = augment(small_task, points.images.double() / 255, 11)
    reached = []
    for batch, seed in ((points, 11), (pk.Points(shown, points.labels), None), (points, 12)):
        learner = Learner(small_task, EXACT)
        learner.load(pk.initial_checkpoint(small_task, 0))
        loss = learner.update(batch, step=0, augmentation_seed=seed)
        reached.append((learner.snapshot().weights, float(loss)))
    assert reached[0][1] == pytest.approx(reached[1][1], rel=1e-12)
    assert pk.distances(reached[0][0], reached[1][0])["linf"] < 1e-12
    assert pk.distances(reached[0][0], reached[2][0])["linf"] > 1e-6


def test_update_moves_the_running_statistics_a_tenth_of_the_way(small_task):
    points = pk.training_points(small_task).take(range(64))
    start = pk.initial_checkpoint(small_task, 0)
    learner = Learner(small_task, EXACT)
    learner.load(start)
    learner.update(points, step=0, augmentation_seed=None)
    images = (points.images.double() / 255 - 0.305) / 0.376
    shown = F.conv2d(images, start.weights["conv.weight"].double(), padding=1).transpose(0, 1).flatten(1)
    buffers = learner.snapshot().buffers
    torch.testing.assert_close(buffers["norm.running_mean"], 0.1 * shown.mean(1))
    torch.testing.assert_close(buffers["norm.running_var"], 0.9 + 0.1 * shown.var(1))


def test_absent_momentum_counts_as_zero_whatever_was_there_before(small_task, small_proof):
    points = pk.training_points(small_task).take(range(64))
    last = small_proof.checkpoint(16)
    zero = {name: torch.zeros_like(value) for name, value in last.momentum.items()}
    reached = []
    for momentum in ({}, zero, last.momentum):
        learner = Learner(small_task, pk.Conditions())
        learner.load(last)  # leaves momentum behind that the next load must replace
        learner.load(Checkpoint(last.weights, last.buffers, momentum))
        learner.update(points, step=0, augmentation_seed=1)
        reached.append(learner.snapshot().weights)
    assert pk.distances(reached[0], reached[1])["l1"] == 0.0
    assert pk.distances(reached[0], reached[2])["l1"] > 0.0


def test_a_snapshot_is_a_copy(small_task):
    learner = Learner(small_task, pk.Conditions())
    learner.load(pk.initial_checkpoint(small_task, 0))
    before = learner.snapshot()
    learner.update(pk.training_points(small_task).take(range(64)), step=0, augmentation_seed=1)
    for part, named in before.parts().items():
        for name, value in named.items():
            expected = pk.initial_checkpoint(small_task, 0).parts()[part][name]
            assert torch.equal(value, expected), f"{part}.{name}"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["weights", "buffers", "momentum"])
def test_one_value_that_is_not_finite_is_found_wherever_it_stands(small_task, part, value):
    checkpoint = pk.initial_checkpoint(small_task, 0)
    without = Checkpoint(checkpoint.weights, checkpoint.buffers, {})
    assert checkpoint.is_finite()
    assert without.is_finite()
    for name, tensor in checkpoint.parts()[part].items():
        values = tensor.view(-1)
        for place in {0, 1, len(values) // 2, len(values) - 1} & set(range(len(values))):
            before = float(values[place])
            values[place] = value
            assert not checkpoint.is_finite(), f"{name}[{place}]"
            values[place] = before
    assert checkpoint.is_finite()
    largest = torch.finfo(torch.float32).max
    assert Checkpoint({"a": torch.tensor([largest, -largest])}, {}, {}).is_finite()


def test_rounded_products_are_what_autocast_computes_in_bf16(small_task, monkeypatch):
    points = pk.training_points(small_task).take(range(64))

    def gradient(precision, capability):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        learner = Learner(small_task, pk.Conditions(precision=precision))
        learner.load(pk.initial_checkpoint(small_task, 0))
        loss = learner.loss(points, None)
        loss.backward()
        return loss.item(), torch.cat([value.grad.flatten() for value in learner.model.parameters()])

    found, wanted = gradient("bf16", "AVX2"), gradient("bf16", "AVX512")
    exact = gradient("float32", "AVX2")
    assert found[0] == pytest.approx(wanted[0], abs=2e-3)
    assert found[0] != exact[0]
    assert (found[1] - wanted[1]).norm() < 0.3 * (found[1] - exact[1]).norm()


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bf16", torch.float32), ("float64", torch.float64)]
)
def test_weights_are_kept_in_the_type_of_the_precision(small_task, precision, dtype):
    conditions = pk.Conditions(precision=precision)
    assert conditions.dtype == dtype
    with applied(conditions):
        learner = Learner(small_task, conditions)
        learner.load(pk.initial_checkpoint(small_task, 0))
        loss = learner.update(pk.training_points(small_task).take(range(64)), step=0, augmentation_seed=1)
        reached = learner.snapshot()
    assert 0 < float(loss) < 10
    for named in reached.parts().values():
        assert {value.dtype for value in named.values()} == {dtype}
        assert all(value.isfinite().all() and value.is_contiguous() for value in named.values())


def test_accuracy_is_the_share_of_right_answers_in_evaluation_mode(small_proof):
    task, points = small_proof.task, pk.test_points(small_proof.task)
    last = small_proof.checkpoint(16)
    model = build_model(task).eval()
    images = (points.images.float() / 255 - 0.305) / 0.376
    tensors = last.weights | last.buffers
    right = torch.func.functional_call(model, tensors, (images,)).argmax(1) == points.labels
    found = pk.accuracy(task, last, points, pk.Conditions())
    assert found == pytest.approx(float(right.double().mean()), abs=1.5 / len(points))  # one near tie may turn
    assert 0 < found < 1
