"""Proofs of computation: the step against autograd, honest proofs, and every lie rejected for its own reason."""

import json
import sys
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

import polkit as pk
from notebooks.experiments.snark import CIRCUITS
from polkit.book.figures import proving_figure
from polkit.defences import snark
from polkit.defences.circuit import LARGEST_WEIGHT
from polkit.experiments.proving_cost import StepCost, extrapolation, first_step, measured_step, seconds_per_operation
from polkit.experiments.published import paper_data, read_steps

SMALL = snark.Circuit(features=16, batch_size=4)
POINTS = pk.training_points(pk.task("digits"))
BATCHES = [snark.pixel_batch(POINTS.take(range(start, start + 4)), side=4) for start in (0, 4)]
FIRST = snark.to_fixed(np.random.default_rng(0).normal(scale=0.1, size=(16, 10)))


@pytest.fixture(scope="module")
def keys():
    pytest.importorskip("ezkl", reason="ezkl is not installed: pip install 'polkit[snark]'")
    return snark.setup(SMALL)


@pytest.fixture(scope="module")
def chain(keys):
    return snark.prove_chain(keys, FIRST, BATCHES)


def kinds(reasons):
    return [reason.kind for reason in reasons]


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


@pytest.mark.parametrize(("side", "batch_size"), [(4, 4), (8, 16)])
def test_a_step_is_sgd_on_the_squared_error_up_to_half_a_unit(side, batch_size):
    circuit = snark.Circuit(side * side, batch_size)
    weights, batch = first_step(circuit, seed=1)
    plain = torch.tensor(weights / 2**16, requires_grad=True)
    targets = F.one_hot(torch.tensor(batch.labels), 10).double()
    loss = ((torch.tensor(batch.images / 16) @ plain - targets) ** 2).sum() / (2 * batch_size)
    expected = (plain - circuit.learning_rate * torch.autograd.grad(loss, plain)[0]).detach().numpy()
    errors = np.abs(snark.step(circuit, weights, batch) / 2**16 - expected)
    assert errors.max() <= 2**-17 + 1e-12
    assert errors.max() > 2**-19  # it does round


def test_the_pixels_of_digits_are_sixteenths_and_lose_nothing():
    batch = snark.pixel_batch(POINTS)
    assert np.array_equal(np.rint(batch.images * (255 / 16)), POINTS.images.flatten(1).numpy())
    assert np.array_equal(batch.labels, POINTS.labels.numpy())


def test_steps_of_the_linear_model_learn_digits():
    circuit, weights = snark.Circuit(64, 16), np.zeros((64, 10), dtype=np.int64)
    for start in range(0, 1408, 16):
        weights = snark.step(circuit, weights, snark.pixel_batch(POINTS.take(range(start, start + 16))))
    test = snark.pixel_batch(pk.test_points(pk.task("digits")))
    assert ((test.images @ weights).argmax(1) == test.labels).mean() > 0.75


def test_what_is_no_step_of_the_circuit_is_refused():
    with pytest.raises(ValueError, match="batch_size is 3, it must be a power of two"):
        snark.Circuit(16, 3)
    with pytest.raises(ValueError, match="learning_rate is 0.1, it must be a power of two"):
        snark.Circuit(16, 4, learning_rate=0.1)
    with pytest.raises(ValueError, match="int64, with the shapes of Circuit"):
        snark.step(SMALL, FIRST[:, :9], BATCHES[0])
    with pytest.raises(ValueError, match="int64, with the shapes of Circuit"):
        snark.step(SMALL, FIRST / 1.0, BATCHES[0])
    with pytest.raises(ValueError, match=f"a weight is {LARGEST_WEIGHT}"):
        snark.step(SMALL, FIRST + LARGEST_WEIGHT - FIRST.max(), BATCHES[0])


def test_without_ezkl_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ezkl", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'polkit\[snark\]'"):
        snark.setup(SMALL)


def test_the_circuit_rounds_as_the_step_does_halves_too(keys, tmp_path):
    images = np.zeros((4, 16), dtype=np.int64)
    images[0, 0] = 1  # so the gradient of the first pixel's weights is their error
    weights = FIRST.copy()
    half = 1 << (SMALL.shift - 1)
    weights[0] = [half, -half, half + 1, half - 1, -half + 1, -half - 1, 3 * half, -3 * half, 0, 1]
    batch = snark.Batch(images, np.array([9, 0, 0, 0]))
    after = snark.step(SMALL, weights, batch)
    public = snark.make_witness(keys, weights, batch, tmp_path / "witness.json")
    import ezkl

    assert [int(ezkl.felt_to_int(value)) for value in public[-160:]] == after.ravel().tolist()


def test_an_honest_chain_holds_and_is_the_native_training(keys, chain):
    weights = FIRST
    for batch in BATCHES:
        weights = snark.step(SMALL, weights, batch)
    assert snark.verify_chain(keys, chain, FIRST, BATCHES, weights) == ()
    assert not np.array_equal(weights, FIRST)
    assert all(len(one.proof) < 10_000 for one in chain)


@pytest.mark.parametrize(
    ("lie", "change"),
    [
        ("weights", {"before": nudged}),
        ("batch", {"batch": other_pixel}),
        ("batch", {"batch": other_label}),
        ("result", {"after": nudged}),
    ],
)
def test_a_step_that_is_not_the_verifiers_is_rejected(keys, chain, lie, change):
    honest = chain[0]
    ((name, changed),) = change.items()
    held = {part: getattr(honest, part) for part in ("before", "batch", "after")}
    assert snark.verify_step(keys, honest, **held) == ()
    held[name] = changed(held[name])
    # The verifier holds something else than the prover states: that is said, and the proof does not hold for it.
    assert kinds(snark.verify_step(keys, honest, **held)) == [lie, "proof"]
    # A prover who states what the verifier holds still has no proof of it.
    assert kinds(snark.verify_step(keys, replace(honest, **held), **held)) == ["proof"]


def test_a_prover_who_lies_to_his_own_prover_has_a_proof_of_nothing(keys, chain, tmp_path):
    import ezkl

    one, false = chain[0], nudged(chain[0].after)
    witness, proof = tmp_path / "witness.json", tmp_path / "proof.json"
    honest = snark.make_witness(keys, one.before, one.batch, witness)[-160:]
    made = json.loads(witness.read_text())
    assert made["outputs"] == [honest]
    made["outputs"][0][37] = (int(false[3, 7]) % snark.FIELD).to_bytes(32, "little").hex()
    assert made["outputs"] != [honest]
    witness.write_text(json.dumps(made))
    names = (witness, keys.folder / "step.ezkl", keys.folder / "proving.key", proof, keys.folder / "srs")
    ezkl.prove(*map(str, names))
    forged = bytes(json.loads(proof.read_text())["proof"])
    for after in (false, one.after):
        assert not snark.proof_holds(keys, forged, one.before, one.batch, after)


def test_a_proof_of_another_step_is_rejected(keys, chain):
    swapped = [replace(chain[0], proof=chain[1].proof), chain[1]]
    found = snark.verify_chain(keys, swapped, FIRST, BATCHES, chain[1].after)
    assert [(reason.kind, reason.step) for reason in found] == [("proof", 0)]


def test_a_gap_between_two_proven_steps_is_rejected(keys, chain):
    jumped = snark.prove_step(keys, nudged(chain[0].after), BATCHES[1])
    found = snark.verify_chain(keys, [chain[0], jumped], FIRST, BATCHES, jumped.after)
    assert [(reason.kind, reason.step) for reason in found] == [("gap", 1)]


def test_a_chain_from_or_to_elsewhere_or_of_another_length_is_rejected(keys, chain):
    last = chain[1].after
    assert kinds(snark.verify_chain(keys, chain, nudged(FIRST), BATCHES, last)) == ["weights", "proof"]
    assert kinds(snark.verify_chain(keys, chain, FIRST, BATCHES, nudged(last))) == ["result", "proof"]
    assert kinds(snark.verify_chain(keys, chain, FIRST, BATCHES[::-1], last)) == ["batch", "proof"] * 2
    assert kinds(snark.verify_chain(keys, chain[:1], FIRST, BATCHES, last)) == ["steps"]


@pytest.mark.parametrize(
    "spoil", [lambda proof: b"", lambda proof: proof[:-1], lambda proof: bytes([proof[0] ^ 1]) + proof[1:]]
)
def test_spoilt_bytes_are_no_proof(keys, chain, spoil):
    one = chain[0]
    assert not snark.proof_holds(keys, spoil(one.proof), one.before, one.batch, one.after)


def test_weights_that_are_no_whole_numbers_are_not_cut_to_some(keys, chain):
    one = chain[0]
    assert not snark.proof_holds(keys, one.proof, one.before, one.batch, one.after + 0.5)


def test_a_missing_key_is_named_and_is_no_rejection(keys, chain, tmp_path):
    one = chain[0]
    with pytest.raises(FileNotFoundError, match="run setup again"):
        snark.proof_holds(replace(keys, folder=tmp_path), one.proof, one.before, one.batch, one.after)


def test_keys_and_srs_are_made_once(keys, home):
    before = {file: file.stat().st_mtime_ns for file in (keys.folder / "proving.key", home / "snark" / "srs-12")}
    assert snark.setup(SMALL) == keys
    assert before == {file: file.stat().st_mtime_ns for file in before}


def test_a_measured_step(keys):
    cost = measured_step(SMALL)
    assert (cost.operations, cost.rows, cost.logrows) == (4 * 4 * 160, keys.rows, 12)
    assert cost.public_values == 160 + 64 + 40 + 160
    assert cost.native_seconds < cost.verify_seconds < cost.prove_seconds
    assert cost.srs_bytes > 128 * 2**12
    assert 1000 < cost.proof_bytes < 10_000


def made_steps(slope, fixed=1.0):
    rows = [
        dict.fromkeys((field.name for field in fields(StepCost)), 1.0)
        | {
            "features": features,
            "batch_size": batch,
            "freivalds": freivalds,
            "operations": 40 * batch * features,
            "prove_seconds": fixed + slope * 40 * batch * features / (1 + 9 * freivalds),
            "native_seconds": 1e-5,
        }
        for freivalds in (False, True)
        for features, batch in ((16, 4), (64, 4), (64, 16))
    ]
    return pd.DataFrame(rows)


def test_the_extrapolation_is_the_slope_times_the_operations_of_all_steps():
    steps = made_steps(slope=1e-4)
    table = extrapolation(steps, operations=10**10, training_steps=1000)
    assert table["step_seconds"][:2].tolist() == pytest.approx([1e6, 1e5])
    assert table["years"][:2].tolist() == pytest.approx([1e9 / (365.25 * 86400), 1e8 / (365.25 * 86400)])
    published = table.iloc[2:].reset_index(drop=True)
    assert published["prover"].tolist() == paper_data("verifiable_computation")["prover"].tolist()
    full = extrapolation(steps, operations=10**10).set_index("prover")
    assert full["years"]["Kaizen, quicker figure"] == pytest.approx(2.2, abs=0.05)  # 78,000 times 15 minutes
    with pytest.raises(ValueError, match="two sizes of batch"):
        seconds_per_operation(steps[steps["batch_size"] == 4])


def test_the_published_measurement_is_of_the_circuits_named_here():
    steps = read_steps()
    assert list(steps.columns) == [field.name for field in fields(StepCost)]
    named = list(steps[["features", "batch_size", "freivalds"]].itertuples(index=False, name=None))
    assert named == [(circuit.features, circuit.batch_size, circuit.freivalds) for circuit in CIRCUITS]
    assert steps["operations"].tolist() == [circuit.operations for circuit in CIRCUITS]
    assert steps["operations"].max() >= 10 * steps["operations"].min()
    assert (steps["prove_seconds"] > 10_000 * steps["native_seconds"]).all()


def test_the_figure_draws_what_was_measured_and_goes_on_to_the_training():
    steps = made_steps(slope=1e-4)
    figure = proving_figure(steps, operations=10**10)
    drawn = {trace.name: trace for trace in figure.plot.data if trace.name}
    proved = drawn["every multiplication proved"]
    mine = steps[~steps["freivalds"].astype(bool)].sort_values("operations")
    assert (list(proved.x), list(proved.y)) == (mine["operations"].tolist(), mine["prove_seconds"].tolist())
    ends = [(trace.x[-1], trace.y[-1]) for trace in figure.plot.data if trace.line.dash == "dot"]
    assert ends == [pytest.approx((1e10, 1e6), rel=1e-4), pytest.approx((1e10, 1e5), rel=1e-4)]
    assert "that is 2,500 years, or 250 with" in figure.summary
