"""Presets: what a verifier takes as it is, on honest proofs and on folders with one thing wrong each."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
from mutations import reseal
from safetensors.torch import save_file

import polkit as pk
from polkit.defences import Commitment, Dispute, judge
from polkit.defences.presets import FAST, MORE, thorough_intervals, watched
from polkit.experiments.published import published
from polkit.proof import ProofError


@pytest.fixture
def judged(small_proof, small_calibration, small_standards):
    """A preset's verdict on a folder, in a dispute over the honest proof's model, with some things changed."""

    def verdict(preset, folder, model=None, seed=0, scale=1.0, **limits):
        dispute = Dispute(model or small_proof.final_weights(), revealed_seed=seed)
        return judge(preset, folder, small_calibration.scaled(scale), replace(small_standards, **limits), dispute)

    return verdict


def kinds(verdict):
    return {reason.kind for reason in verdict.reasons}


def test_recommended_accepts_the_honest_proof_at_the_cost_that_it_states(small_proof, judged):
    verdict = judged("recommended", small_proof)
    assert verdict.accepted, str(verdict)
    assert verdict.replayed == 1  # the proof has four intervals, 80 would be looked at
    assert verdict.cost.gradient_evaluations == small_proof.steps
    assert verdict.cost.floating_point_operations == small_proof.cost().floating_point_operations
    assert verdict.cost.wall_seconds > 0
    assert str(verdict) == "accepted (recommended: 100% of the training replayed)"
    assert set(verdict.intervals["replay"]) == {"recorded"}
    told = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert (told["preset"], told["reasons"], told["replayed_intervals"]) == ("recommended", [], 4)


def test_recommended_finds_what_is_wrong_with_a_folder(small_proof, small_standards, judged, tmp_path):
    final, spoof = small_proof.final_weights(), {"spoof_steps": 8, "seed": 1, "progress": False}
    straight = pk.interpolation_only(final, small_proof.task, out=tmp_path / "straight", **spoof)
    found = kinds(judged("recommended", straight))
    assert {"steps", "start", "limits", "tight"} <= found
    assert "model" not in found
    other = replace(final, weights={name: value + 1 for name, value in final.weights.items()})
    assert kinds(judged("recommended", small_proof, model=other, seed=1)) == {"model", "start"}
    assert kinds(judged("recommended", small_proof, speed=0.1)) == {"speed"}
    assert kinds(judged("recommended", small_proof, commitment=Commitment("00" * 32, 256))) == {"data", "start"}
    nothing = {part: dict.fromkeys(table, 0.0) for part, table in small_standards.tight.items()}
    assert kinds(judged("recommended", small_proof, tight=nothing)) == {"tight"}
    assert kinds(judged("paper", straight, scale=1e-3)) == {"stages"}
    every = judged("all", straight, scale=1e-3)
    assert {"stages", "steps", "start", "straight"} <= kinds(every)
    assert str(every).splitlines()[-1] == f"  and {len(every.reasons) - 8} more"


def test_a_folder_that_cannot_be_judged_is_refused_before_anything_is_replayed(copied, judged, tmp_path):
    with pytest.raises(
        ValueError, match="there is no preset 'strict'; the presets are paper, recommended, thorough, all"
    ):
        judged("strict", copied)
    nowhere = judged("paper", tmp_path / "nowhere")
    assert (nowhere.accepted, nowhere.usable, nowhere.cost.gradient_evaluations) == (False, False, 0)
    assert nowhere.to_json()["replayed_intervals"] == 0
    (copied.folder / "batches.npy").unlink()
    refused = judged("recommended", copied)
    assert (refused.accepted, refused.usable, refused.replayed) == (False, True, 0)
    assert "missing" in kinds(refused)


def test_a_file_that_changes_while_it_is_judged_is_a_reason(copied, judged, monkeypatch):
    def changing(*arguments, **settings):
        raise ProofError("batches.npy changed after its digest had been checked")

    monkeypatch.setattr("polkit.defences.evidence.replay", changing)
    verdict = judged("paper", copied)
    assert (verdict.accepted, verdict.usable, kinds(verdict)) == (False, True, {"malformed"})
    assert str(verdict).startswith("rejected (paper: 0% of the training replayed)")
    assert json.loads(json.dumps(verdict.to_json()))["replayed_intervals"] == 0


def test_without_recorded_augmentation_only_the_paper_can_judge(copied, judged):
    (copied.folder / "augmentation.npy").unlink()
    reseal(copied.folder)
    assert judged("paper", copied).accepted
    for preset in ("recommended", "thorough", "all"):
        assert "recorded" in kinds(judged(preset, copied))


def moving(magnitudes, speed, interval=10):
    """Evidence of a folder of `digits` whose intervals move so far, for a verifier with this speed limit."""
    starts = range(0, interval * len(magnitudes), interval)
    found = pd.DataFrame({"start": starts, "end": [start + interval for start in starts], "magnitude": magnitudes})
    return SimpleNamespace(
        inspection=SimpleNamespace(magnitudes=found),
        calibration=SimpleNamespace(task=pk.task("digits")),
        standards=SimpleNamespace(speed=speed),
        proof=SimpleNamespace(checkpoint_interval=interval),
        random=lambda count: [20],
    )


def test_thorough_replays_what_is_fast_and_the_interval_before():
    """At η = 0.05 an interval of ten steps that moves 1 has speed 2; a limit of 10 / FAST watches from speed 10 on."""
    seen = moving([6, 0, 0, 0, 5.01, 4.99, 0, float("nan")], speed=10 / FAST)
    assert watched(seen) == [0, 30, 40, 60, 70]
    assert thorough_intervals(seen) == [0, 20, 30, 40, 60, 70]
    assert watched(moving([1] * 8, speed=10 / FAST)) == []
    late = pk.task("digits").milestones[0] * 22  # where the rate is a tenth, so is the way
    slow = [0.0] * (late // 10) + [0.0, 0.51, 0.49]
    assert watched(moving(slow, speed=10 / FAST)) == [late, late + 10]


def test_hops_that_are_not_watched_are_so_many_that_one_is_drawn():
    """On `digits`, and if each push runs out: below 1e-6, at less than half of an honest proof."""
    trials, task = published("digits/crossing"), pk.task("digits")
    known = trials[trials["hops"] > 0].sort_values("way").iloc[0]
    carried, momentum = 0.0, 1.0
    for _ in range(1000):  # how far a momentum of 1 moves the weights, and how far of that in its first interval
        momentum *= task.momentum
        carried += momentum
    first = sum(task.momentum**step for step in range(1, 11)) / carried
    farthest = FAST * known["limit"] * 10 * task.learning_rate / first  # with the first interval not watched
    fewest = math.ceil(known["way"] / farthest)
    assert math.comb(440 - fewest, MORE) / math.comb(440, MORE) < 1e-6
    honest, thorough = trials[trials["hops"] == 0], trials[trials["preset"] == "thorough"]
    assert (honest["replayed"] < 0.5).all()
    assert (honest.groupby("preset")["seed"].nunique() == 20).all()
    assert honest["other_checks"].all()
    assert (honest[["predicted", "measured"]] == 1).all(axis=None)
    assert (thorough.loc[thorough["hops"] > 0, ["predicted", "measured"]] < 1e-6).all(axis=None)


@pytest.mark.parametrize("preset", ["recommended", "all"])
def test_a_proof_may_give_its_data_any_name_and_is_judged_alike(preset, small_proof, copied, judged):
    """With three-channel statistics, which the name of unknown data would call for, the model could not be run."""
    points = pk.training_points(small_proof.task)
    save_file({"images": points.images, "labels": points.labels}, copied.folder / "points.safetensors")
    reseal(copied.folder, task=small_proof.task.replace(data="mine").to_json())
    assert kinds(judged(preset, copied)) == kinds(judged(preset, small_proof))
