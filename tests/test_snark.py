"""Proofs of computation: an honest step is proved, and no proof holds for another step."""

import json
from dataclasses import replace

import numpy as np
import pytest

import polkit as pk
from polkit.defences.circuit import Circuit, first_step, pixel_batch, setup, step
from polkit.defences.snark import FIELD, make_witness, proof_holds, prove_step

SMALL = Circuit(features=16, batch_size=4)
FIRST, BATCH = first_step(SMALL)
NEXT = pixel_batch(pk.training_points(pk.task("digits")).take(range(4)), side=4)


@pytest.fixture(scope="module")
def keys():
    pytest.importorskip("ezkl", reason="ezkl is not installed: pip install 'polkit[snark]'")
    return setup(SMALL)


@pytest.fixture(scope="module")
def proven(keys):
    return prove_step(keys, FIRST, BATCH)


def nudged(weights):
    changed = weights.copy()
    changed[3, 7] += 1  # by 2^-16, the least there is
    return changed


def other_pixel(batch):
    images = batch.images.copy()
    images[0, 0] = 16 - images[0, 0]
    return replace(batch, images=images)


def other_label(batch):
    return replace(batch, labels=(batch.labels + np.array([1, 0, 0, 0])) % 10)


def test_an_honest_step_is_the_native_one_and_its_proof_holds(keys, proven):
    assert np.array_equal(proven.after, step(SMALL, FIRST, BATCH))
    assert not np.array_equal(proven.after, FIRST)
    assert proof_holds(keys, proven.proof, FIRST, BATCH, proven.after)
    assert len(proven.proof) < 10_000


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("before", nudged),
        ("batch", other_pixel),
        ("batch", other_label),
        ("after", nudged),
        ("after", lambda weights: weights + 0.5),  # not cut to whole numbers
    ],
)
def test_no_proof_holds_for_another_step(keys, proven, part, change):
    held = {name: getattr(proven, name) for name in ("before", "batch", "after")}
    held[part] = change(held[part])
    assert not proof_holds(keys, proven.proof, **held)


def test_a_prover_who_lies_to_his_own_prover_has_a_proof_of_nothing(keys, proven, tmp_path):
    import ezkl

    false = nudged(proven.after)
    witness, proof = tmp_path / "witness.json", tmp_path / "proof.json"
    honest = make_witness(keys, FIRST, BATCH, witness)[-160:]
    made = json.loads(witness.read_text())
    assert made["outputs"] == [honest]
    made["outputs"][0][37] = (int(false[3, 7]) % FIELD).to_bytes(32, "little").hex()
    assert made["outputs"] != [honest]
    witness.write_text(json.dumps(made))
    names = (witness, keys.folder / "step.ezkl", keys.folder / "proving.key", proof, keys.folder / "srs")
    ezkl.prove(*map(str, names))
    forged = bytes(json.loads(proof.read_text())["proof"])
    for after in (false, proven.after):
        assert not proof_holds(keys, forged, FIRST, BATCH, after)


def test_a_proof_of_another_step_is_rejected(keys, proven):
    second = prove_step(keys, proven.after, NEXT)
    assert proof_holds(keys, second.proof, proven.after, NEXT, second.after)
    assert not proof_holds(keys, second.proof, FIRST, BATCH, proven.after)
    assert not proof_holds(keys, proven.proof, proven.after, NEXT, second.after)


@pytest.mark.parametrize(
    "spoil", [lambda proof: b"", lambda proof: proof[:-1], lambda proof: bytes([proof[0] ^ 1]) + proof[1:]]
)
def test_spoilt_bytes_are_no_proof(keys, proven, spoil):
    assert not proof_holds(keys, spoil(proven.proof), FIRST, BATCH, proven.after)


def test_a_missing_key_is_named_and_is_no_rejection(keys, proven, tmp_path):
    with pytest.raises(FileNotFoundError, match="run setup again"):
        proof_holds(replace(keys, folder=tmp_path), proven.proof, FIRST, BATCH, proven.after)
