"""How long computations tell how far they are, and stop when asked."""

import pytest

import polkit as pk
from polkit.training.jobs import Cancelled, reported


def test_a_function_is_told_before_the_first_item_and_after_the_last():
    told = []
    items = list(reported("ab", total=5, initial=3, title="", progress=lambda *now: told.append(now)))
    assert items == ["a", "b"]
    assert told == [(3, 5), (4, 5), (5, 5)]


def test_a_bar_goes_to_stderr_and_silence_nowhere(capsys):
    assert list(reported("ab", total=2, title="counting", progress=True)) == ["a", "b"]
    assert "counting" in capsys.readouterr().err
    assert list(reported("ab", total=2, title="counting", progress=False)) == ["a", "b"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("attack", [pk.attack_1, pk.attack_2, pk.attack_3, pk.interpolation_only])
def test_a_cancelled_attack_leaves_no_spoof_and_can_be_run_again(small_task, small_proof, tmp_path, attack):
    final, out = small_proof.final_weights(), tmp_path / "spoof"

    def stop_halfway(done, total):
        if done >= total // 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        attack(final, small_task, spoof_steps=8, out=out, progress=stop_halfway)
    assert not out.exists()
    told = []
    spoof = attack(final, small_task, spoof_steps=8, out=out, progress=lambda *now: told.append(now))
    assert spoof.steps == 8
    done, total = zip(*told, strict=True)
    assert list(done) == sorted(done)
    assert (done[0], done[-1]) == (0, total[0])


def test_a_cancelled_proof_goes_on_where_it_stopped(small_task, small_proof, tmp_path):
    out, told = tmp_path / "proof", []

    def stop_at_ten(done, total):
        if done == 10:
            raise Cancelled

    with pytest.raises(Cancelled):
        pk.prove(small_task, seed=0, out=out, progress=stop_at_ten)
    proof = pk.prove(small_task, seed=0, out=out, progress=lambda *now: told.append(now))
    assert told[0] == (8, 16)
    assert proof.manifest["files"] == small_proof.manifest["files"]
