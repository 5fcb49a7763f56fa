"""The hidden crossing: every interval reproduces to the last bit but those that were never computed."""

import pytest

import polkit as pk
from polkit.adversary import crossing_length, hidden_crossing
from polkit.data import derive_seed
from polkit.defences import derived_start, gather

EXACT = pk.Conditions()


@pytest.fixture(scope="module")
def task(small_task):
    return small_task.replace(checkpoint_interval=2)  # S = 4, T = 16


@pytest.mark.parametrize(("jumps", "made_up"), [(1, {10, 14}), (2, {6, 10, 14})])
def test_all_but_the_intervals_around_the_jumps_are_real(task, small_proof, tmp_path, jumps, made_up):
    final = small_proof.final_weights()
    spoof = hidden_crossing(final, task, spoof_steps=16, jumps=jumps, seed=1, out=tmp_path / "s", progress=False)
    found = gather(spoof, task, EXACT).intervals
    errors = found.groupby("start")["error"].max()
    assert set(errors[errors > 0].index) == made_up
    moved = found[(found["part"] == "weights") & (found["distance"] == "l2")].set_index("start")["moved"]
    for start in list(made_up)[:-1]:
        assert moved[start] == 0  # it only claims a momentum
    assert moved.idxmax() not in made_up
    assert all(pk.distances(spoof.final_weights().weights, final.weights)[name] == 0 for name in pk.DISTANCES)
    assert not derived_start(spoof, derive_seed(1, "adversary"))
    again = pk.distances(spoof.checkpoint(0).weights, pk.initial_checkpoint(task, derive_seed(1, "adversary")).weights)
    assert again["linf"] == 0
    assert len(spoof.trace()) == jumps


def test_the_landing_must_not_be_alone_in_its_epoch(task, small_proof, tmp_path):
    assert crossing_length(task, 9) == 12
    assert crossing_length(task.replace(checkpoint_interval=4), 4) is None
    with pytest.raises(ValueError, match=r"T' = 14 steps are no crossing of k = 2: it takes 4 intervals or more"):
        hidden_crossing(small_proof.final_weights(), task, spoof_steps=14, out=tmp_path / "s", progress=False)
    with pytest.raises(ValueError, match="without momentum: there is none to borrow"):
        hidden_crossing(small_proof.final_weights(), task.replace(momentum=0.0), spoof_steps=16, progress=False)
