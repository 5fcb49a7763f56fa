"""A Merkle root over the data: what it lets in, and what it keeps out."""

import hashlib
from dataclasses import replace

import pytest
import torch
from pymerkle import InmemoryTree

import polkit as pk
from polkit.defences import Commitment, CommittedData, committed_data, seed_of, uncommitted
from polkit.training.data import signature


def points(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return pk.Points(images, torch.arange(count) % 10)


def test_the_root_is_the_merkle_root_of_rfc_9162():
    """Worked out by hand for three points: leaves carry a 0 in front, inner nodes a 1."""
    three = points(3)

    def leaf(number):
        return hashlib.sha256(b"\0" + signature(three.take([number]))).digest()

    def node(left, right):
        return hashlib.sha256(b"\1" + left + right).digest()

    published = CommittedData(three).commitment
    assert published.root == node(node(leaf(0), leaf(1)), leaf(2)).hex()
    assert published.size == 3


def test_every_committed_point_is_opened_and_nothing_else():
    data = CommittedData(points(50))
    shown = points(50).take([3, 49, 0, 3])
    openings = data.openings(shown)
    assert uncommitted(shown, openings, data.commitment) == []
    assert uncommitted(shown, CommittedData(points(50, seed=1)).openings(shown), data.commitment) == [0, 1, 2, 3]
    assert len(openings[0].serialize()["path"]) <= 7  # log2 of 50, and the leaf itself


@pytest.mark.parametrize("change", ["pixel", "label", "swap"])
def test_an_opening_is_good_for_its_own_point_alone(change):
    data, shown = CommittedData(points(20)), points(20).take([4, 5])
    openings = data.openings(shown)
    if change == "pixel":
        shown.images[0, 0, 0, 0] ^= 1
    elif change == "label":
        shown.labels[0] += 1
    else:
        openings = openings[::-1]
    assert uncommitted(shown, openings, data.commitment) == ([0, 1] if change == "swap" else [0])
    if change != "swap":
        assert data.openings(shown)[0] is None


def test_another_root_or_size_opens_nothing():
    data, shown = CommittedData(points(20)), points(20).take([4])
    for change in ({"root": CommittedData(points(20, seed=2)).commitment.root}, {"size": 21}):
        assert uncommitted(shown, data.openings(shown), replace(data.commitment, **change)) == [0]


def test_the_prover_does_not_choose_the_hash():
    data, shown = CommittedData(points(20)), points(20).take([4])
    other = InmemoryTree(algorithm="sha512")
    for number in range(20):
        other.append_entry(signature(points(20).take([number])))
    assert uncommitted(shown, [other.prove_inclusion(5)], data.commitment) == [0]
    published = replace(data.commitment, root=other.get_root().hex())
    assert uncommitted(shown, [other.prove_inclusion(5)], published) == [0]
    unsafe = InmemoryTree(algorithm="sha256", disable_security=True)  # leaves that look like inner nodes
    for number in range(20):
        unsafe.append_entry(signature(points(20).take([number])))
    published = replace(data.commitment, root=unsafe.get_root().hex())
    assert uncommitted(shown, [unsafe.prove_inclusion(5)], published) == [0]


def test_a_forged_image_lies_under_no_root(small_task, small_proof, small_calibration, tmp_path):
    data = CommittedData(pk.training_points(small_task))
    assert committed_data(small_proof, data, data.commitment, small_proof.checkpoint_steps[:-1]) == []
    final, budget = small_proof.final_weights(), {"spoof_steps": 16, "seed": 1, "progress": False}
    plain = pk.interpolation_only(final, small_task, out=tmp_path / "plain", **budget)
    assert committed_data(plain, data, data.commitment, plain.checkpoint_steps[:-1]) == []
    forged = pk.attack_2(final, small_task, out=tmp_path / "forged", stopping_test=False, iterations=1, **budget)
    found = committed_data(forged, data, data.commitment, [8])
    assert [reason.step for reason in found] == [8]
    assert "points were not committed" in str(found[0])


def test_the_seed_belongs_to_the_data_and_their_order():
    first = seed_of(CommittedData(points(20)).commitment)
    assert first == seed_of(CommittedData(points(20)).commitment)
    assert 0 <= first < 2**63
    others = {
        seed_of(CommittedData(points(20).take(order)).commitment)
        for order in (range(20), range(19), [1, 0, *range(2, 20)], [*range(20), 0])
    }
    assert len(others) == 4  # so another order is another try
    assert first in others
    with pytest.raises(ValueError, match="hex"):
        seed_of(Commitment("no root", 20))
