"""The hidden crossing: every interval reproduces to the last bit but those that were never computed."""

import pytest

import polkit as pk
from polkit.adversary import crossing_length, hidden_crossing
from polkit.defences import derived_start
from polkit.training.data import derive_seed
from polkit.verifier import STATE
from polkit.verifier.replay import replay

EXACT = pk.Conditions()


@pytest.fixture(scope="module")
def task(small_task):
    return small_task.replace(checkpoint_interval=2)  # S = 4, T = 16


def test_all_but_the_intervals_around_the_jump_are_real(task, small_proof, tmp_path):
    final, adversary = small_proof.final_weights(), derive_seed(1, "adversary")
    spoof = hidden_crossing(final, task, spoof_steps=16, seed=1, out=tmp_path / "s", progress=False)
    found = replay(spoof, task, EXACT, parts=STATE)
    errors = found.groupby("start")["error"].max()
    assert set(errors[errors > 0].index) == {10, 14}
    moved = found[(found["part"] == "weights") & (found["distance"] == "l2")].set_index("start")["moved"]
    assert moved[10] == 0  # it only claims a momentum
    assert moved.idxmax() == 12
    assert spoof.trace()["moved"].item() == pytest.approx(moved[12])
    last, wanted = spoof.checkpoint(16).parts(), final.parts()
    assert all(pk.distances(last[part], wanted[part])["linf"] == 0 for part in ("weights", "buffers"))
    assert not derived_start(spoof, adversary)


def test_the_landing_must_not_be_alone_in_its_epoch(task, small_proof, tmp_path):
    assert crossing_length(task, 9) == 12
    assert crossing_length(pk.task("digits"), 4400) == 4400  # so that it stands where T' = T is asked for
    assert crossing_length(task.replace(checkpoint_interval=4), 4) is None
    with pytest.raises(ValueError, match=r"T' = 14 steps are no crossing of k = 2: it takes 4 intervals or more"):
        hidden_crossing(small_proof.final_weights(), task, spoof_steps=14, out=tmp_path / "s", progress=False)
    with pytest.raises(ValueError, match="without momentum: there is none to borrow"):
        hidden_crossing(small_proof.final_weights(), task.replace(momentum=0.0), spoof_steps=16, progress=False)
