"""Where a training came from: its seed, its data, and how fast it learnt."""

from dataclasses import replace

import pytest
import torch

import polkit as pk
from polkit.defences import CommittedData, derived_start, ends_at, perturbed_points, seed_of, start_of_the_data
from polkit.defences.origin import accuracy_trend
from polkit.training.data import derive_seed


@pytest.fixture(scope="module")
def forged(small_task, small_proof, tmp_path_factory):
    folder, final = tmp_path_factory.mktemp("origin"), small_proof.final_weights()
    budget = {"spoof_steps": 16, "seed": 1, "progress": False}
    return {
        "sorted": pk.interpolation_only(final, small_task, out=folder / "sorted", **budget),
        "treated": pk.attack_2(final, small_task, out=folder / "treated", stopping_test=False, iterations=3, **budget),
        "fresh": pk.borrowed_momentum(final, small_task, out=folder / "fresh", fresh_start=True, **budget),
    }


@pytest.fixture(scope="module")
def known(small_task):
    """What a verifier knows: the task, and the commitment to its data."""
    return small_task, CommittedData(pk.training_points(small_task)).commitment


def test_an_honest_start_follows_from_its_seed(small_proof, known):
    assert derived_start(small_proof, *known, 0) == []
    assert [str(found) for found in derived_start(small_proof, *known, 1)] == [
        "start: this is not the seed that the manifest commits to"
    ]


def test_a_sorted_start_follows_from_no_seed_and_a_fresh_one_does(forged, known):
    seed = derive_seed(1, "adversary")
    found = derived_start(forged["sorted"], *known, seed)
    assert [reason.step for reason in found] == [0]
    assert "away from what its seed draws" in str(found[0])
    assert derived_start(forged["fresh"], *known, seed) == []
    changed = derived_start(forged["treated"], *known, seed)
    assert any("batches from step 0 on are not those of its seed" in str(reason) for reason in changed)


def test_a_seed_decides_no_batch_over_points_of_the_provers_own_order_or_number(small_proof, known, monkeypatch):
    points = pk.training_points(small_proof.task)
    own = {"reversed": points.take(range(len(points))[::-1]), "repeated": points.take([*range(len(points)), 0])}
    for other in own.values():
        with monkeypatch.context() as patched:
            patched.setattr("polkit.defences.origin.proof_points", lambda proof, other=other: other)
            assert [str(found) for found in derived_start(small_proof, *known, 0)] == [
                "start: its points are not the committed ones in their order"
            ]
    # Nor is the order of a training set of the size that the prover claims the task's.
    task, commitment = known
    smaller = task.replace(train_size=task.train_size - task.batch_size)
    assert "are not those of its seed" in str(derived_start(small_proof, smaller, commitment, 0)[-1])


def test_images_beside_committed_ones_are_seen_and_foreign_ones_are_not(forged, small_task, small_proof):
    half = pk.training_points(small_task)
    assert perturbed_points(small_proof, half) == []
    assert perturbed_points(forged["sorted"], half) == []
    own = perturbed_points(forged["treated"], half)
    # As if the adversary had perturbed images of its own: hardly any happens to lie near one of another data set.
    foreign = perturbed_points(forged["treated"], pk.test_points(small_task))
    counts = [int(str(found[0]).split()[1]) if found else 0 for found in (own, foreign)]
    assert counts[0] > 100  # 557 and 886 of 1,024 with two releases of torch; one iteration left 446 and 34
    assert counts[0] > 50 * counts[1]


def test_nearness_is_measured_by_the_distance_to_the_nearest_neighbour(small_proof, monkeypatch):
    committed = pk.Points(torch.zeros((2, 1, 1, 2), dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    committed.images[1] = 10  # its neighbour is 14.1 away
    used = pk.Points(torch.tensor([[[[7, 0]]], [[[8, 0]]], [[[0, 0]]]], dtype=torch.uint8), torch.zeros(3).long())
    monkeypatch.setattr("polkit.defences.origin.proof_points", lambda proof: used)
    monkeypatch.setattr(type(small_proof), "batches", lambda proof: torch.arange(3).numpy())
    assert "1 of 3 points" in str(perturbed_points(small_proof, committed)[0])
    used.images[1, 0, 0, 0] = 7
    assert "2 of 3 points" in str(perturbed_points(small_proof, committed)[0])


def test_equal_colour_images_are_no_distance_apart(small_proof, monkeypatch):
    """From 25 images on torch would compare them by matrix products."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 3, 32, 32), generator=generator, dtype=torch.uint8)
    committed = pk.Points(images, torch.zeros(60, dtype=torch.int64))
    monkeypatch.setattr("polkit.defences.origin.proof_points", lambda proof: committed)
    monkeypatch.setattr(type(small_proof), "batches", lambda proof: torch.arange(60).numpy())
    assert perturbed_points(small_proof, committed) == []
    images = images.clone()
    images[7, 0, 0, 0] ^= 1
    assert "1 of 60 points" in str(perturbed_points(small_proof, pk.Points(images, committed.labels))[0])


def test_the_trend_is_the_accuracy_of_the_model_at_that_share(small_proof, small_task):
    tests, conditions = pk.test_points(small_task), pk.Conditions()
    right = pk.accuracy(small_task, small_proof.checkpoint(8), tests, conditions)
    assert accuracy_trend(small_proof, small_task, tests, conditions, share=0.5, least=right) == []
    found = accuracy_trend(small_proof, small_task, tests, conditions, share=0.5, least=right + 0.01)
    assert [reason.step for reason in found] == [8]
    assert f"right on {right:.1%}" in str(found[0])
    # The data that a proof names say nothing about how the verifier normalises images.
    named = replace(small_proof, task=small_proof.task.replace(data="mine"))
    assert accuracy_trend(named, small_task, tests, conditions, share=0.5, least=right) == []


def test_a_proof_of_another_model_is_no_proof_of_this_one(forged, small_proof, small_task, tmp_path):
    disputed = small_proof.final_weights()
    assert ends_at(small_proof, disputed) == ends_at(forged["fresh"], disputed) == []
    other = pk.distil(disputed, small_task, spoof_steps=16, seed=1, out=tmp_path / "other", progress=False)
    assert [str(found).split(" end ")[0] for found in ends_at(other, disputed)] == [
        "model: the weights",
        "model: the buffers",
    ]


def test_a_start_of_the_data_needs_no_revealed_seed(forged, known, small_proof, tmp_path):
    small_task, commitment = known
    follower = pk.prove(small_task, seed_of(commitment), out=tmp_path / "follower", progress=False)
    assert start_of_the_data(follower, *known) == []
    chosen = "start: this is not the seed that the manifest commits to"
    for folder in (small_proof, forged["sorted"], forged["fresh"]):  # each followed a seed of its maker's
        assert [str(found) for found in start_of_the_data(folder, *known)] == [chosen]
    other = CommittedData(pk.training_points(small_task).take(range(255))).commitment
    assert [str(found) for found in start_of_the_data(follower, small_task, other)] == [chosen]
    # To name the seed of the data is not to have started from it.
    manifest = forged["sorted"].manifest | {"seed_commitment": follower.manifest["seed_commitment"]}
    found = start_of_the_data(replace(forged["sorted"], manifest=manifest), *known)
    assert "W_0 is up to" in str(found[0])
    assert "batches from step 0 on" in str(found[1])
