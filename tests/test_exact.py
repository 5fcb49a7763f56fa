"""Exact replay: two machines that differ a little round alike, and a log settles doubts and nothing else."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import polkit as pk
from polkit.defences import exact as exact_room
from polkit.defences.exact import (
    ALLOWED,
    NEAR,
    flat,
    placed,
    prove_exactly,
    read_log,
    replay_exactly,
    reproduced_exactly,
    round_and_log,
    round_by_log,
    unflat,
)
from polkit.proof import ROUNDING_LOG, ProofError
from polkit.proof.storage import partial_path
from polkit.training import Checkpoint, Learner, applied
from polkit.verifier import recorded_data
from polkit.verifier.replay import interval_errors

EXACT = pk.Conditions(precision="float64")
PARTS = ["weights", "buffers", "momentum"]


@pytest.fixture(scope="module")
def exact(small_task):
    return prove_exactly(small_task, 0)


@pytest.fixture
def logged(exact, tmp_path):
    return pk.open_proof(shutil.copytree(exact.folder, tmp_path / "copy"))


def drawn(count, seed=0):
    """Values of every size that occurs, from 1e-12 to 100."""
    generator = torch.Generator().manual_seed(seed)
    sizes = 10 ** (torch.rand(count, generator=generator, dtype=torch.float64) * 14 - 12)
    return sizes * torch.randn(count, generator=generator, dtype=torch.float64)


def units(values):
    return placed(values)[0]


def nearness(values):
    """How far each value lies from the middle between its two neighbours, in units."""
    return (placed(values)[2] - 0.5).abs()


def another_machine(values, seed=1, most=0.9 * NEAR):
    noise = torch.rand(len(values), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values + units(values) * most * (2 * noise - 1)


def test_the_grid_is_that_of_float32_and_nowhere_finer_than_2_to_the_minus_44():
    values = drawn(20_000)
    large = values.abs() >= 2.0**-21
    below = np.nextafter(values.abs().numpy(), 0).astype(np.float32)
    below = np.where(below > values.abs().numpy(), np.nextafter(below, np.float32(0)), below)  # cut, not rounded
    assert (units(values)[large].numpy() == np.spacing(below)[large.numpy()].astype(np.float64)).all()
    assert (units(values)[~large] == 2.0**-44).all()
    rounded, _ = round_and_log(values)
    assert torch.equal(rounded[large], values[large].float())
    assert torch.equal(rounded[~large].double() * 2.0**44, (values[~large] * 2.0**44).round())
    assert round_and_log(torch.zeros(3, dtype=torch.float64))[0].tolist() == [0, 0, 0]


def test_the_log_names_what_lies_near_a_middle_and_which_way_it_went():
    unit = 2.0**-23  # between 1 and 2
    values = torch.tensor(
        [
            1 + 0.5 * unit + 0.9 * NEAR * unit,
            1 + 0.5 * unit - 0.9 * NEAR * unit,
            1 + 0.4 * unit,
            1 + 0.5 * unit + 1.1 * NEAR * unit,
        ],
        dtype=torch.float64,
    )
    rounded, entries = round_and_log(values)
    assert entries.tolist() == [2 * 0 + 1, 2 * 1 + 0]
    assert rounded.tolist() == [1 + unit, 1, 1, 1 + unit]
    assert nearness(values).tolist() == pytest.approx([0.9 * NEAR, 0.9 * NEAR, 0.1, 1.1 * NEAR], abs=1e-8)


def test_two_machines_round_alike_with_the_log_and_not_without():
    here = drawn(300_000)
    there = another_machine(here)
    rounded, entries = round_and_log(here)
    again, turned = round_by_log(there, entries)
    assert torch.equal(again, rounded)
    alone, none = round_by_log(there, entries[:0])
    assert none == 0
    assert turned == int((alone != rounded).sum()) > 0
    share = len(entries) / len(here)
    assert share == pytest.approx(2 * NEAR, rel=0.1)


def test_a_log_settles_a_doubt_and_nothing_else():
    values = drawn(5000)
    distance = nearness(values)
    far = int((distance > ALLOWED).nonzero()[0])
    for entry in (2 * far, 2 * far + 1):
        with pytest.raises(ProofError, match=f"rounds value {far}, which lies"):
            round_by_log(values, torch.tensor([entry], dtype=torch.int32))
    with pytest.raises(ProofError, match="rounds value 0"):
        round_by_log(torch.tensor([torch.nan], dtype=torch.float64), torch.tensor([1], dtype=torch.int32))
    # What it may do: move each value by one unit at most, and by no more than half a unit and a hair from the truth.
    doubtful = (distance <= ALLOWED).nonzero().flatten()
    pushed, _ = round_by_log(values, (2 * doubtful + 1).int())
    nearest, _ = round_and_log(values)
    assert ((pushed.double() - nearest.double()).abs() <= units(values)).all()
    assert ((pushed.double() - values).abs() <= (0.5 + ALLOWED) * units(values) * (1 + 1e-12)).all()


def test_a_state_survives_being_laid_flat(small_proof):
    state = small_proof.checkpoint(8)
    again = unflat(flat(state).float(), state).parts()
    assert all(
        torch.equal(value, again[part][name]) for part, named in state.parts().items() for name, value in named.items()
    )


def test_another_order_of_sums_reproduces_every_bit(exact, small_task, small_calibration):
    other = pk.Conditions(onednn=False)
    rows = replay_exactly(exact, small_task, other, reordered=5)
    assert (rows[PARTS] == 0).all(axis=None)
    assert (rows["logged"] > 0).all()
    assert reproduced_exactly(exact, small_task, other) == []
    first, data = exact.checkpoint(0), recorded_data(exact, EXACT)
    learner = Learner(small_task, EXACT)
    values = [exact_room.stepped(learner, first, data, 0, reordered) for reordered in (None, 5)]
    assert not torch.equal(*values)  # the two machines do differ
    assert pk.verify(exact, small_calibration, top_q="all").accepted  # and it is a proof like any other


def test_what_no_log_settles_is_an_error(exact, small_task, monkeypatch):
    """On a machine that differs by a thousand times what ours do, so that sixteen steps are enough to see it."""
    honest = exact_room.stepped
    monkeypatch.setattr(exact_room, "stepped", lambda *step: another_machine(honest(*step), seed=step[3]))
    rows = replay_exactly(exact, small_task, pk.Conditions())
    assert (rows[PARTS] == 0).all(axis=None)
    assert rows["turned"].sum() > 0
    without = replay_exactly(exact, small_task, pk.Conditions(), use_log=False)
    broken = without.loc[rows["turned"] > 0, PARTS]
    assert (broken.max(axis=1) > 0).all()


def test_an_ordinary_proof_is_not_exact_on_another_machine(small_task, small_proof):
    rows = interval_errors(small_proof, small_task, pk.Conditions(onednn=False), [0], 0)
    assert all(row["error"] > 0 for row in rows if row["distance"] == "l2")
    assert [str(found) for found in reproduced_exactly(small_proof, small_task, pk.Conditions())] == [
        f"exact: {ROUNDING_LOG} is missing: without it no two machines round alike"
    ]


def test_a_spoof_is_far_from_exact_whatever_log_it_brings(exact, small_task, small_proof, tmp_path):
    final, budget = small_proof.final_weights(), {"spoof_steps": 16, "seed": 1, "progress": False}
    straight = pk.interpolation_only(final, small_task, out=tmp_path / "straight", **budget)
    borrowed = pk.borrowed_momentum(final, small_task, out=tmp_path / "borrowed", **budget)
    found = replay_exactly(straight, small_task, pk.Conditions(), use_log=False)
    assert found["weights"].min() > 0.1
    chain = replay_exactly(borrowed, small_task, pk.Conditions(), use_log=False)
    assert chain["momentum"].iloc[:-1].min() > 1e-3  # what an interval leaves is not what the next begins with
    shutil.copy(exact.folder / ROUNDING_LOG, straight.folder)
    assert "is open to doubt" in str(reproduced_exactly(straight, small_task, pk.Conditions())[0])


def test_the_log_cannot_steer(exact, small_task):
    """An adversary rounds the weights that are open to doubt towards another model; the verifier takes all of it."""
    target, steered, data = pk.initial_checkpoint(small_task, 9), exact.checkpoint(0), recorded_data(exact, EXACT)
    model = flat(Checkpoint(target.weights, target.buffers, {}))
    with applied(EXACT):
        learner = Learner(small_task, EXACT)
        for step in range(4):
            values = exact_room.stepped(learner, steered, data, step)
            count = len(values) - len(model)  # of weights, and of their momenta, which push the weights
            aim = torch.cat([model, values[-count:] + (values[:count] - model[:count])])
            doubtful = (nearness(values) <= ALLOWED).nonzero().flatten()
            rounded, _ = round_by_log(values, (2 * doubtful + (aim > values)[doubtful]).int())
            steered = unflat(rounded, steered)
    left, right = exact.checkpoint(4).weights, steered.weights
    moved = pk.distances(left, right)["l2"]
    way = pk.distances(exact.checkpoint(0).weights, exact.checkpoint(16).weights)["l2"]
    assert 0 < moved < 1e-5 * way


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda ends, entries: {"ends": ends, "entries": entries.long()}, "it must be int32"),
        (lambda ends, entries: {"ends": ends}, "lacks or adds the tensor 'entries'"),
        (lambda ends, entries: {"ends": ends[:-1], "entries": entries}, "ends has shape (15,)"),
        (lambda ends, entries: {"ends": ends, "entries": entries[:-1]}, "ends must rise to"),
        (lambda ends, entries: {"ends": ends.flip(0), "entries": entries}, "ends must rise to"),
        (lambda ends, entries: {"ends": ends, "entries": entries.flip(0)}, "the positions of step 0 must rise"),
        (lambda ends, entries: {"ends": ends, "entries": entries - 2**20}, "must rise from 0"),
        (lambda ends, entries: {"ends": ends, "entries": entries + 2**20}, "to below 38388"),
        (lambda ends, entries: {"ends": ends + 2**14, "entries": torch.arange(len(entries) + 2**14).int()}, "a step"),
        (lambda ends, entries: {"ends": ends, "entries": torch.zeros(2**20).int()}, "it may have"),
    ],
)
def test_a_log_is_read_only_if_it_can_be_one(logged, small_task, change, reason):
    entries = read_log(logged, 38388)
    ends = torch.tensor([len(step) for step in entries]).cumsum(0)
    save_file(change(ends, torch.cat(entries)), logged.folder / ROUNDING_LOG)
    found = [str(finding) for finding in reproduced_exactly(logged, small_task, pk.Conditions())]
    assert len(found) == 1
    assert reason in found[0]


def test_a_link_is_no_log(logged, exact, small_task):
    (logged.folder / ROUNDING_LOG).unlink()
    (logged.folder / ROUNDING_LOG).symlink_to(exact.folder / ROUNDING_LOG)
    assert "not a file" in str(reproduced_exactly(logged, small_task, pk.Conditions())[0])


def test_what_is_there_is_not_made_again_and_would_be_the_same(exact, small_task):
    before = (exact.folder / "manifest.json").stat().st_mtime_ns
    assert prove_exactly(small_task, 0).digest == exact.digest
    assert (exact.folder / "manifest.json").stat().st_mtime_ns == before
    shutil.rmtree(exact.folder)
    assert prove_exactly(small_task, 0).digest == exact.digest


def test_a_place_that_a_killed_process_left_is_cleared(small_task, tmp_path, monkeypatch):
    monkeypatch.setenv("POLKIT_HOME", str(tmp_path))
    folder = prove_exactly(small_task, 0).folder
    folder.rename(partial_path(folder))
    (partial_path(folder) / "manifest.json").unlink()
    assert prove_exactly(small_task, 0).folder == folder
    assert not partial_path(folder).exists()


def test_an_index_beyond_the_data_is_a_reason(logged, small_task):
    batches = np.load(logged.folder / "batches.npy")
    batches[0, 0] = 999_999
    np.save(logged.folder / "batches.npy", batches)
    (reason,) = reproduced_exactly(pk.open_proof(logged.folder), small_task, pk.Conditions())
    assert reason.kind == "exact"
