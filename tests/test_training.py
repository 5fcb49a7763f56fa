import numpy as np
import pytest
import torch
from torch.nn import functional as F

import polkit as pk
from polkit.cost import Meter
from polkit.models import build_model
from polkit.training import applied, load, make_learner, snapshot

EXACT = pk.Conditions(precision="float64")


def test_update_is_a_hand_written_sgd_step(small_task):
    task = small_task.replace(shift=0)
    points, start = pk.training_points(task), pk.initial_checkpoint(task, 3)
    model = build_model(task).double()
    weights = {name: value.double().requires_grad_() for name, value in start.weights.items()}
    momentum = {name: torch.zeros_like(value) for name, value in weights.items()}
    with applied(EXACT):
        learner = make_learner(task, EXACT)
        load(learner, start)
        for step in range(10):  # the learning rate drops at step 8, epoch 2 of 4
            batch = points.take(np.arange(step * 16, step * 16 + 64))
            pk.update(learner, batch, step=step, augmentation_seed=0)
            images = (batch.images.double() / 255 - 0.305) / 0.376
            loss = F.cross_entropy(torch.func.functional_call(model, weights, (images,)), batch.labels)
            gradient = torch.autograd.grad(loss, list(weights.values()))
            rate = 0.05 if step < 8 else 0.005
            for (name, value), slope in zip(list(weights.items()), gradient, strict=True):
                momentum[name] = 0.9 * momentum[name] + slope + 1e-4 * value.detach()
                weights[name] = (value.detach() - rate * momentum[name]).requires_grad_()
        reached = snapshot(learner)
    for name, value in weights.items():
        torch.testing.assert_close(reached.weights[name], value.detach(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(reached.momentum[name], momentum[name], rtol=1e-9, atol=1e-12)


def test_learning_rate_drops_at_the_milestones():
    task = pk.task("cifar100")
    rates = [task.learning_rate_at(epoch * 390) for epoch in (0, 59, 60, 119, 120, 159, 160, 199)]
    assert rates == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008])
    assert task.learning_rate_at(60 * 390 - 1) == 0.1


def test_a_loaded_checkpoint_comes_back_bit_for_bit(small_proof):
    recorded = small_proof.checkpoint(8)
    learner = make_learner(small_proof.task, pk.Conditions())
    load(learner, recorded)
    for part, tensors in snapshot(learner).parts().items():
        assert all(torch.equal(value, recorded.parts()[part][name]) for name, value in tensors.items()), part


def test_applied_takes_its_settings_back():
    threads, onednn = torch.get_num_threads(), torch.backends.mkldnn.enabled
    with applied(pk.Conditions(threads=threads + 1, onednn=False)):
        assert torch.get_num_threads() == threads + 1
        assert not torch.backends.mkldnn.enabled
    assert (torch.get_num_threads(), torch.backends.mkldnn.enabled) == (threads, onednn)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"precision": "fp8"}, "one of float32, bf16, float64"), ({"augmentation": "off"}, "one of replay, redraw"),
     ({"threads": 0}, "at least 1")],
)  # fmt: skip
def test_impossible_conditions_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        pk.Conditions(**settings)


@pytest.mark.parametrize(
    "conditions",
    [pk.Conditions(precision="bf16"), pk.Conditions(onednn=False), EXACT,
     pytest.param(pk.Conditions(device="cuda"), marks=[
         pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")])],
    ids=["bf16", "no oneDNN", "float64", "cuda"],
)  # fmt: skip
def test_other_conditions_differ_a_little(small_task, conditions):
    def trained(under):
        return pk.train(small_task.replace(epochs=1), 0, under, pk.training_points(small_task)).weights

    start = pk.initial_checkpoint(small_task, 0).weights
    usual = trained(pk.Conditions())
    other = {name: value.float() for name, value in trained(conditions).items()}
    moved, apart = pk.distances(usual, start)["l2"], pk.distances(usual, other)["l2"]
    assert 0 < apart < 0.2 * moved


def test_operations_of_a_forward_pass_by_hand():
    # 2 · outputs · inputs per output, for 64 images of 8x8: stem, then stages of 8x8, 4x4 and 2x2 positions.
    macs = 64 * (72 + 576 * 2) + 16 * (1152 + 2304) + 4 * (4608 + 9216) + 320
    units = pk.unit_costs(pk.task("digits"))
    assert units["forward"].floating_point_operations == 2 * 64 * macs
    assert units["forward"].floating_point_operations * 2 < units["update"].floating_point_operations
    assert (units["forward"].gradient_evaluations, units["update"].gradient_evaluations) == (0, 1)
    assert units["objective"].gradient_evaluations == 3


def test_a_joint_gradient_counts_once_for_the_paper_and_k_times_in_operations():
    meter = Meter({"update": pk.Cost(1, 100), "objective": pk.Cost(3, 270)})
    meter.charge("update", 5)
    meter.charge("objective", 2, batches=10)
    cost = meter.cost()
    assert (cost.gradient_evaluations, cost.floating_point_operations) == (5 + 6, 500 + 5400)
    assert meter.counts == {"update": 5, "objective": 2}
    assert cost.wall_seconds > 0
    assert (cost + cost).floating_point_operations == 11800
    assert pk.Cost(1, 10, 2.0, 4).relative_to(pk.Cost(2, 20, 8.0, 16)) == {
        "gradient_evaluations": 0.5, "floating_point_operations": 0.5, "wall_seconds": 0.25, "stored_bytes": 0.25
    }  # fmt: skip
