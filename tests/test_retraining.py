"""The two spoofs that are honest work: retraining ends in the prover's own bytes, distillation in another model."""

import dataclasses

import pytest
import torch

import polkit as pk
from polkit.experiments.retraining import distil, retrain
from polkit.training import Checkpoint
from polkit.training.data import normalise
from polkit.training.models import build_model


@pytest.fixture(scope="module")
def final(small_proof):
    return small_proof.final_weights()


@pytest.fixture(scope="module")
def distilled(small_task, final, tmp_path_factory):
    return distil(final, small_task, spoof_steps=16, out=tmp_path_factory.mktemp("distilled") / "d", progress=False)


def predicted(task, checkpoint, images):
    model = build_model(task).eval()
    shown = normalise(task, images.float() / 255)
    with torch.no_grad():
        return torch.func.functional_call(model, {**checkpoint.weights, **checkpoint.buffers}, (shown,)).argmax(1)


def test_retraining_with_the_provers_seed_makes_the_provers_bytes_at_the_provers_cost(small_task, small_proof, home):
    steps = []
    spoof = retrain(small_task, 0, progress=lambda done, total: steps.append((done, total)))
    assert spoof.folder != small_proof.folder
    assert spoof.manifest["files"] == small_proof.manifest["files"]
    assert len(spoof.manifest["files"]) == 5 + 3
    assert spoof.digest == small_proof.digest
    assert steps[0] == (0, 16)
    assert steps[-1] == (16, 16)
    relative = spoof.cost().relative_to(small_proof.cost())
    assert relative["gradient_evaluations"] == relative["floating_point_operations"] == relative["stored_bytes"] == 1
    other = retrain(small_task, 1, progress=False)
    assert other.manifest["files"] != small_proof.manifest["files"]


def test_retraining_never_hands_out_the_provers_own_folder(small_task, home):
    cached = pk.prove(small_task, 0, progress=False)
    spoof = retrain(small_task, 0, progress=False)
    assert spoof.folder.parent == home / "spoofs"
    assert spoof.folder != cached.folder
    assert retrain(small_task, 0, progress=False).folder == spoof.folder


def test_a_distilled_model_has_a_valid_proof(distilled, small_calibration):
    assert pk.verify(distilled, small_calibration, top_q="all").accepted
    own = dataclasses.replace(small_calibration, conditions=pk.Conditions())
    verdict = pk.verify(distilled, own, top_q="all")
    assert verdict.accepted
    assert (verdict.intervals["error"] == 0).all()  # honest to the last bit, drops of the learning rate included


def test_fewer_steps_are_the_first_steps_of_more(distilled, small_task, final, tmp_path):
    short = distil(final, small_task, spoof_steps=8, out=tmp_path / "short", progress=False)
    assert short.batches().tolist() == distilled.batches()[:8].tolist()
    for step in (0, 4, 8):
        early, late = short.checkpoint(step), distilled.checkpoint(step)
        for part in ("weights", "buffers", "momentum"):
            assert all(torch.equal(value, late.parts()[part][name]) for name, value in early.parts()[part].items())


def test_its_points_are_the_training_images_with_the_teachers_labels(distilled, small_task, final):
    points, originals = distilled.points(), pk.training_points(small_task)
    assert torch.equal(points.images, originals.images)
    assert torch.equal(points.labels, predicted(small_task, final, originals.images))
    assert not torch.equal(points.labels, originals.labels)  # 16 steps of training agree with 1 label in 4


def test_it_is_another_model_than_the_stolen_one(distilled, small_task, small_proof, final, small_calibration):
    away = pk.distances(distilled.final_weights().weights, final.weights)
    for name in ("l1", "l2", "cos"):  # the largest single difference scatters by 40%
        assert away[name] == pytest.approx(small_calibration.reference["weights"][name], rel=0.1), name
    first = distilled.checkpoint(0)
    assert pk.test_initialisation(small_task, first)["passed"].all()
    assert not torch.equal(first.weights["conv.weight"], small_proof.checkpoint(0).weights["conv.weight"])
    assert not torch.equal(
        first.weights["conv.weight"], pk.initial_checkpoint(small_task, 0).weights["conv.weight"]
    )  # nor the W_0 that a prover would draw from the adversary's seed


def test_a_student_learns_what_its_teacher_says_and_not_what_is_true(final, small_task, tmp_path):
    constant = Checkpoint({**final.weights, "head.bias": torch.eye(10)[3] * 1e4}, final.buffers, {})
    spoof = distil(constant, small_task, spoof_steps=16, out=tmp_path / "d", progress=False)
    assert spoof.points().labels.eq(3).all()
    assert predicted(small_task, spoof.final_weights(), pk.test_points(small_task).images).eq(3).float().mean() > 0.9


def test_the_cost_of_distillation_by_hand(distilled, small_task, final, tmp_path):
    units = pk.unit_costs(small_task)
    assert distilled.counts() == {"forward": 256 // 64, "update": 16}
    assert distilled.cost().gradient_evaluations == 16  # labelling needs no gradient
    assert distilled.cost().floating_point_operations == (
        4 * units["forward"].floating_point_operations + 16 * units["update"].floating_point_operations
    )
    uneven = small_task.replace(train_size=200)
    spoof = distil(final, uneven, spoof_steps=4, out=tmp_path / "uneven", progress=False)
    assert spoof.counts() == {"forward": 4, "update": 4}
    assert len(spoof.points()) == 200


def test_distillation_is_kept_and_reported_like_every_attack(small_task, final, home, tmp_path):
    steps = []
    spoof = distil(final, small_task, spoof_steps=4, progress=lambda done, total: steps.append((done, total)))
    assert spoof.folder.parent == home / "spoofs"
    assert steps == [(0, 2), (1, 2), (2, 2)]  # of the checkpoints 0 and 4
    assert distil(final, small_task, spoof_steps=4, progress=False).folder == spoof.folder
    assert distil(final, small_task, spoof_steps=4, seed=1, progress=False).folder != spoof.folder
    with pytest.raises(ValueError, match="T' = 10 is no multiple of the checkpoint interval k = 4"):
        distil(final, small_task, spoof_steps=10, out=tmp_path / "odd", progress=False)
    with pytest.raises(FileExistsError, match="exists already"):
        distil(final, small_task, spoof_steps=4, out=tmp_path, progress=False)
