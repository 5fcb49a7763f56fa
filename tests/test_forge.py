"""The frame of every spoof: the same bytes whoever shares the work, in a folder like any proof's."""

import dataclasses

import numpy as np
import pytest
import torch

import polkit as pk
from polkit.adversary.forge import Made, chained_buffers, forge, trained, with_published
from polkit.adversary.plan import Batch, make_plan
from polkit.proof import ProofError
from polkit.training.conditions import applied
from polkit.training.models import buffer_decays

EXACT = pk.Conditions(precision="float64")
ATTACKS = {"attack_2": pk.attack_2, "attack_3": pk.attack_3, "interpolation_only": pk.interpolation_only}


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


@pytest.mark.parametrize("name", ATTACKS)
def test_a_spoof_is_a_folder_like_any_proof_and_its_distance_is_the_paths(
    name, small_task, final, small_proof, small_calibration, tmp_path
):
    spoof = ATTACKS[name](final, small_task, spoof_steps=16, out=tmp_path / "spoof", progress=False)
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


def test_the_non_overlapping_half_makes_a_spoof_of_the_same_task(tmp_path):
    whole = pk.task("digits:first-half").replace(epochs=2, train_size=256, checkpoint_interval=4)
    other = pk.task("digits:second-half").replace(epochs=2, train_size=256, checkpoint_interval=4)
    proof = pk.prove(whole, out=tmp_path / "proof", progress=False)
    calibration = pk.calibrate(proof, replays=2, workers=1, out=tmp_path / "c.json", progress=False)
    spoof = pk.interpolation_only(proof.final_weights(), other, spoof_steps=8, out=tmp_path / "s", progress=False)
    verdict = pk.verify(spoof, calibration.scaled(1e6), top_q="all")
    assert verdict.accepted, verdict


def test_an_honest_training_in_the_frame_is_the_provers(small_task, small_proof, tmp_path):
    """Algorithm 1 and the first lines of Algorithm 3 are the same updates: only the seed's batches differ."""
    final, out = small_proof.final_weights(), tmp_path / "spoof"
    plan = make_plan(final, small_task, spoof_steps=16, out=out, progress=False)
    first, seeds = small_proof.checkpoint(0), small_proof.augmentation_seeds()
    plan = dataclasses.replace(plan, first=first, batches=small_proof.batches(), seeds=seeds)
    spoof = forge(plan, "honest", lambda plan: trained(plan.learner(), plan, 16), {})
    assert spoof.manifest["files"] == small_proof.manifest["files"]
    assert spoof.counts() == {"update": 16}


def test_published_batches_are_points_of_their_own(small_task, final):
    plan = make_plan(final, small_task, spoof_steps=4, seed=1)
    points, indices = with_published(plan.points, plan.batches, [])
    assert points is plan.points
    assert indices is plan.batches
    wide = [plan.batch(step) for step in (2, 3)]  # the last two of four
    points, indices = with_published(plan.points, plan.batches, wide)
    size = plan.task.batch_size
    assert len(points) == len(plan.points) + 2 * size
    assert np.array_equal(indices[:2], plan.batches[:2])
    assert indices[2:].ravel().tolist() == list(range(len(plan.points), len(points)))
    assert torch.equal(points.take(indices[3]).images, wide[1].points.images)
    alone, indices = with_published(plan.points, plan.batches, plan.interval(0))
    assert len(alone) == 4 * size
    assert indices.ravel().tolist() == list(range(4 * size))


def test_a_spoof_in_the_cache_is_not_made_again_and_progress_counts_checkpoints(small_task, final, home):
    made, told = [], []

    def at_rest(plan, mark):
        made.append(mark)
        for step in (0, 4, 8):
            yield Made(step, plan.first, trace=[{"step": step}])

    plan = make_plan(final, small_task, spoof_steps=8, seed=1, progress=lambda *now: told.append(now))
    first, again, other = (forge(plan, "still", at_rest, {"mark": mark}) for mark in (1, 1, 2))
    assert made == [1, 2]
    assert first.folder == again.folder != other.folder
    assert first.folder.parent == home / "spoofs"
    assert first.trace()["step"].tolist() == [0, 4, 8]
    assert told[:4] == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("name", "wrong", "least"),
    [
        ("iterations", -1, 0),
        ("iterations", 2.5, 0),
        ("iterations", True, 0),
        ("draws", 0, 1),
        ("draws", "2", 1),
        ("retries", -1, 0),
    ],
)
def test_how_often_an_attack_tries_is_a_whole_number_before_anything_is_tried(name, wrong, least, small_task, final):
    for attack in (pk.attack_2, pk.attack_3):
        with pytest.raises(ValueError, match=f"{name} must be a whole number from {least} up, not {wrong!r}"):
            attack(final, small_task, spoof_steps=16, progress=False, **{name: wrong})


@pytest.mark.parametrize("wrong", [-1e-9, float("inf"), float("nan")])
def test_a_weight_of_the_noise_is_a_finite_number_before_anything_is_tried(wrong, small_task, final):
    for attack in (pk.attack_2, pk.attack_3):
        with pytest.raises(ValueError, match=f"noise_weight must be a finite number from 0 up, not {wrong!r}"):
            attack(final, small_task, spoof_steps=16, progress=False, noise_weight=wrong)


def test_numbers_of_numpy_are_taken(small_task, final, tmp_path, monkeypatch):
    monkeypatch.setenv("POLKIT_HOME", str(tmp_path))
    numbers = {"iterations": np.int64(2), "retries": np.int32(0), "draws": np.uint8(1), "trained_steps": np.int64(4)}
    spoof = pk.attack_2(final, small_task, spoof_steps=np.int64(8), seed=np.int64(1), **numbers, progress=False)
    assert spoof.steps == 8


def test_a_damaged_spoof_in_the_cache_is_named_with_what_to_do(small_task, final, tmp_path, monkeypatch):
    monkeypatch.setenv("POLKIT_HOME", str(tmp_path))
    folder = pk.interpolation_only(final, small_task, spoof_steps=8, seed=1, progress=False).folder
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ProofError, match=rf"{folder} cannot be used \(manifest.json is not JSON.*\): remove it, or"):
        pk.interpolation_only(final, small_task, spoof_steps=8, seed=1, progress=False)


def test_a_number_that_no_step_can_have_is_a_sentence(small_task, final, tmp_path):
    task = small_task.replace(learning_rate=1e39)
    with pytest.raises(ValueError, match="lr = 1e.39 is above 3.4e.38, the largest that a step can have"):
        pk.interpolation_only(final, task, spoof_steps=8, out=tmp_path / "forged", progress=False)
    with pytest.raises(ValueError, match="the largest that a step can have"):
        pk.prove(task, out=tmp_path / "proof", progress=False)
