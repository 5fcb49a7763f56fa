"""Memorisation: batches that a model was trained on leave a trace, and others do not."""

import math
import shutil
import sys

import numpy as np
import pytest

import polkit as pk
from notebooks.experiments.ordering import fitted_batches
from polkit.defences import memorisation, memorised
from polkit.defences.memorisation import _rank_statistic, losses_taken
from polkit.proof import ProofError
from polkit.proof.folder import write_manifest

EXACT = pk.Conditions()


@pytest.fixture(scope="module")
def begun():
    """The first 132 steps of a training of `digits`, k = 10: enough to be remembered."""
    return pk.task("digits").replace(epochs=6, milestones=(100, 150))


@pytest.fixture(scope="module")
def honest(begun, tmp_path_factory):
    return pk.prove(begun, 3, out=tmp_path_factory.mktemp("begun") / "proof", progress=False)


@pytest.fixture(scope="module")
def spoof(begun, honest, tmp_path_factory):
    out = tmp_path_factory.mktemp("begun") / "spoof"
    return pk.borrowed_momentum(honest.final_weights(), begun, spoof_steps=40, seed=1, out=out, progress=False)


@pytest.fixture(scope="module")
def remembered(honest, begun):
    return memorisation(honest, begun, EXACT)


def together(rows):
    return rows["z"].sum() / math.sqrt(len(rows))


def rewritten(proof, folder, batches):
    """The proof with other batches, as if it had been trained on them."""
    shutil.copytree(proof.folder, folder)
    np.save(folder / "batches.npy", batches)
    write_manifest(folder, {name: value for name, value in proof.manifest.items() if name != "files"})
    return pk.open_proof(folder)


def test_the_statistic_is_mann_and_whitneys():
    generator = np.random.default_rng(0)
    left, right = generator.normal(0.3, 1, 40), generator.normal(0, 2, 70)
    above = sum(a > b for a in left for b in right)
    deviation = math.sqrt(40 * 70 * 111 / 12)
    assert _rank_statistic(left, right) == pytest.approx((above - 1400) / deviation)
    found = [_rank_statistic(*np.split(generator.normal(size=110), [40])) for _ in range(400)]
    assert abs(np.mean(found)) < 4 / math.sqrt(400)
    assert np.std(found) == pytest.approx(1, abs=0.15)
    assert math.isnan(_rank_statistic(left, np.append(right, np.nan)))


def test_an_honest_beginning_is_remembered(honest, begun, remembered):
    rows = remembered
    assert rows["start"].tolist() == list(range(0, 132, 10))
    assert (rows["used"] == [640] * 13 + [128]).all()
    assert (rows["others"] >= 1408 - 640).all()
    assert together(rows) > 8
    assert rows["share"].mean() > 0.53
    assert memorised(honest, begun, EXACT.replace(onednn=False)) == []


def test_other_batches_are_not(honest, begun, tmp_path):
    others = np.random.default_rng(5).permuted(np.tile(np.arange(1408, dtype=np.int32), (6, 1)), axis=1)
    changed = rewritten(honest, tmp_path / "other", others.reshape(132, 64))
    assert abs(together(memorisation(changed, begun, EXACT))) < 3.7
    found = memorised(changed, begun, EXACT)
    assert str(found[0]).startswith("memorised: the batches of 14 intervals are remembered with z = ")


def test_the_samples_are_shown_as_training_saw_them(honest, begun, remembered, tmp_path):
    """With other shifts than those recorded, less is remembered."""
    shutil.copytree(honest.folder, tmp_path / "shifted")
    np.save(tmp_path / "shifted" / "augmentation.npy", honest.augmentation_seeds() + 1)
    shifted = memorisation(pk.open_proof(tmp_path / "shifted"), begun, EXACT)
    assert together(remembered) > together(shifted) + 3


def test_a_spoof_is_not_remembered_until_its_batches_are_chosen_to_be(spoof, begun, tmp_path):
    assert [reason.kind for reason in memorised(spoof, begun, EXACT)] == ["memorised"]
    fitted = fitted_batches(spoof, tmp_path / "fitted")
    assert memorised(fitted, begun, EXACT) == []
    assert fitted.steps == spoof.steps
    assert (fitted.batches() != spoof.batches()).any()
    points = pk.training_points(begun)
    assert fitted.signatures()[7].tobytes() == pk.signature(points.take(fitted.batches()[7]))
    with pytest.raises(FileExistsError, match="choose another folder"):
        fitted_batches(spoof, tmp_path / "fitted")


def test_without_other_points_or_shifts_nothing_can_be_said(small_proof, small_task, copied):
    found = memorised(small_proof, small_task, EXACT)  # k = S: each interval uses every point
    assert "leaves none to compare with" in str(found[0])
    (copied.folder / "augmentation.npy").unlink()
    with pytest.raises(ProofError, match="augmentation.npy is missing"):
        memorised(copied, small_task, EXACT)


def test_what_is_run_forward_is_counted(honest, begun, monkeypatch):
    shown = []
    monkeypatch.setattr(
        sys.modules["polkit.defences.memorisation"],
        "_losses",
        lambda *given: shown.append(len(given[-1])) or np.arange(float(len(given[-1]))),
    )
    memorised(honest, begun, EXACT)
    assert sum(shown) == losses_taken(honest)
