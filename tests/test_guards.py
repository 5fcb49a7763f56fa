"""What must not pass for a success: a training that diverges, an attack that misses its aim."""

import json
import math

import pytest
import torch

import polkit as pk
from polkit.__main__ import main
from polkit.adversary.forge import movement_missed
from polkit.proof.checkpoints import read_checkpoint
from polkit.prover import Diverged
from polkit.training import Learner, applied, augmentation_order, batch_order


def diverging_at(step, monkeypatch, what):
    """From this step on, training is not finite."""
    real = Learner.update

    def update(learner, batch, *, step: int, augmentation_seed):
        loss = real(learner, batch, step=step, augmentation_seed=augmentation_seed)
        if step == at and what == "loss":
            return loss * math.nan
        if step == at:
            next(iter(learner.model.parameters())).data.fill_(math.inf)
        return loss

    at = step
    monkeypatch.setattr("polkit.training.step.Learner.update", update)


def test_a_huge_learning_rate_stops_the_proof_with_its_step(small_task, tmp_path):
    """The first loss that is not finite, or the first update, by plain steps that look every time."""
    task = small_task.replace(learning_rate=1e6)
    with pytest.raises(Diverged) as stopped:
        pk.prove(task, seed=0, out=tmp_path / "proof", progress=False)
    points, batches, seeds = pk.training_points(task), batch_order(task, 0), augmentation_order
    learner = Learner(task, pk.Conditions())
    learner.load(pk.initial_checkpoint(task, 0))
    with applied(pk.Conditions()):
        for first in range(task.steps):
            loss = learner.update(
                points.take(batches[first]), step=first, augmentation_seed=int(seeds(task, 0, task.steps)[first])
            )
            state = [*learner.model.parameters(), *learner.model.buffers()]
            if not (math.isfinite(loss) and all(bool(value.isfinite().all()) for value in state)):
                break
    assert f"diverged at step {first} of 16, with a learning rate of 1e+06" in str(stopped.value)
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("what", ["loss", "state"])
@pytest.mark.parametrize("step", [0, 3, 4, 9, 15])
def test_the_step_that_is_named_is_the_one_and_nothing_after_it_is_kept(small_task, tmp_path, monkeypatch, step, what):
    diverging_at(step, monkeypatch, what)
    with pytest.raises(Diverged, match=rf"diverged at step {step} of 16, with a learning rate of 0.0"):
        pk.prove(small_task, seed=0, out=tmp_path / "proof", progress=False)
    kept = sorted((tmp_path / "proof.partial" / "checkpoints").iterdir())
    assert [int(file.stem) for file in kept] == [*range(0, step + 1, 4)]
    assert all(read_checkpoint(file, small_task).is_finite() for file in kept)


def test_a_reference_that_diverges_gives_no_calibration(small_proof, tmp_path, monkeypatch):
    diverging_at(9, monkeypatch, "state")
    with pytest.raises(Diverged, match="at step 9"):
        pk.calibrate(small_proof, replays=2, workers=1, out=tmp_path / "c.json", progress=False)
    assert not (tmp_path / "c.json").exists()


def test_a_loss_that_is_not_finite_only_once_names_the_interval(small_task, tmp_path, monkeypatch):
    real, seen = Learner.update, []

    def update(*arguments, step, **named):
        seen.append(step)
        loss = real(*arguments, step=step, **named)
        return loss * math.nan if step == 7 and seen.count(7) == 1 else loss

    monkeypatch.setattr("polkit.training.step.Learner.update", update)
    with pytest.raises(Diverged, match="between the steps 4 and 8, .* these conditions do not compute the same twice"):
        pk.prove(small_task, seed=0, out=tmp_path / "proof", progress=False)


def test_the_loss_is_looked_at_only_where_a_checkpoint_is_due(small_task, tmp_path, monkeypatch):
    """Each look would make a GPU wait."""
    real, looks = Learner.update, []

    class Loss:
        def __init__(self, step):
            self.step = step

        def __rmul__(self, _):
            return self

        def __radd__(self, _):
            return self

        def __add__(self, other):
            return other

        def __float__(self):
            looks.append(self.step)
            return 0.0

    def update(*arguments, step, **named):
        real(*arguments, step=step, **named)
        return Loss(step)

    monkeypatch.setattr("polkit.training.step.Learner.update", update)
    pk.prove(small_task, seed=0, out=tmp_path / "proof", progress=False)
    assert looks == [3, 7, 11, 15]


def test_prove_that_diverges_is_one_sentence_and_status_1(tmp_path, monkeypatch, capsys):
    diverging_at(5, monkeypatch, "loss")
    arguments = ["prove", "--epochs", "1", "--checkpoint-interval", "4", "--out", str(tmp_path / "proof")]
    assert main(arguments) == 1
    told = capsys.readouterr().err.splitlines()
    assert "diverged at step 5 of 22, with a learning rate of 0.0005" in told[-1]
    assert told[-1].startswith("polkit: ")


def test_an_attack_that_misses_says_by_how_much_and_is_kept_only_if_asked(
    small_task, small_proof, small_calibration, tmp_path
):
    """γ so small that a single iteration cannot reach it."""
    given = {
        "spoof_steps": 8,
        "calibration": small_calibration,
        "iterations": 1,
        "movement_limit": 1e-6,
        "progress": False,
    }
    for name, attack in (("2", pk.attack_2), ("3", pk.attack_3)):
        with pytest.raises(pk.AttackFailed, match=r"optimisations did not end within γ in 1 iterations; the worst"):
            attack(small_proof.final_weights(), small_task, out=tmp_path / name, keep_failed=False, **given)
        assert list(tmp_path.iterdir()) == []
    kept = pk.attack_2(small_proof.final_weights(), small_task, out=tmp_path / "kept", **given)
    worst = kept.trace()["movement_over_limit"]
    assert f"8 of 8 optimisations did not end within γ in 1 iterations; the worst, of step {worst.idxmax()}, moves" in (
        kept.missed()
    )
    assert f"{worst.max():.3g} γ" in kept.missed()
    assert json.loads((tmp_path / "kept.record.json").read_text())["missed"] == kept.missed()


def test_an_attack_in_the_cache_that_missed_is_no_success_either(small_task, small_proof, small_calibration):
    given = {"spoof_steps": 4, "calibration": small_calibration, "iterations": 1, "movement_limit": 1e-6, "seed": 77}
    final = small_proof.final_weights()
    made = pk.attack_2(final, small_task, progress=False, **given)
    with pytest.raises(pk.AttackFailed) as failed:
        pk.attack_2(final, small_task, progress=False, keep_failed=False, **given)
    assert str(failed.value) == made.missed() != ""


def test_an_attack_that_reaches_its_aim_has_missed_nothing(small_task, small_proof, small_calibration, tmp_path):
    spoof = pk.attack_2(
        small_proof.final_weights(),
        small_task,
        spoof_steps=4,
        calibration=small_calibration,
        movement_limit=0.999,
        out=tmp_path / "spoof",
        keep_failed=False,
        progress=False,
    )
    assert spoof.missed() == ""
    assert (spoof.trace()["movement_over_limit"] <= 1).all()
    assert small_proof.missed() == ""


def test_attack_1_misses_by_what_lies_between_its_last_update_and_w_t(
    small_task, small_proof, small_calibration, tmp_path
):
    given = {"spoof_steps": 8, "calibration": small_calibration, "iterations": 2, "progress": False}
    with pytest.raises(pk.AttackFailed, match=r"does not end within δ of W_T after 2 iterations: it misses by"):
        pk.attack_1(small_proof.final_weights(), small_task, out=tmp_path / "spoof", keep_failed=False, **given)
    spoof = pk.attack_1(small_proof.final_weights(), small_task, out=tmp_path / "spoof", **given)
    row, delta = spoof.trace().iloc[0], small_calibration.thresholds["weights"]
    assert row["missed_over_threshold"] >= row["missed_after"] / delta["l2"] * (1 - 1e-6)
    assert f"{row['missed_over_threshold']:.3g} δ" in spoof.missed()
    errors = pk.verify(spoof, small_calibration, top_q="all").intervals
    last = errors[(errors["start"] == 4) & (errors["part"] == "weights")]
    # The verifier replays the same last update, with augmentation of its own.
    assert float((last["error"] / last["threshold"]).max()) == pytest.approx(row["missed_over_threshold"], rel=0.1)


def test_nan_counts_as_missed():
    rows = [
        {"step": 0, "iterations": 3, "movement_over_limit": 0.5},
        {"step": 1, "iterations": 3, "movement_over_limit": float(torch.nan)},
    ]
    assert "1 of 2" in movement_missed(rows)
    assert "of step 1, moves the weights nan γ" in movement_missed(rows)
    assert movement_missed(rows[:1]) == movement_missed([]) == ""
