"""Presets: what a verifier takes as it is, on honest proofs and on folders with one thing wrong each."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import polkit as pk
from polkit.defences import (
    PRESETS,
    Commitment,
    Dispute,
    exact_initial_values,
    load_standards,
    open_case,
    rule,
    set_standards,
    stage_threshold,
    within_stages,
)
from polkit.defences.case import RECORDED, REDRAWN, STRETCHED
from polkit.defences.presets import BY_LOT, LARGEST, looked_at
from polkit.experiments.matrix import honest_rulings
from polkit.training.cost import unit_costs
from polkit.training.step import Checkpoint


@pytest.fixture(scope="module")
def standards(small_proof, small_calibration):
    return set_standards(small_proof, small_calibration)


@pytest.fixture(scope="module")
def dispute(small_proof):
    return Dispute(small_proof.final_weights(), revealed_seed=0)


@pytest.fixture
def case(small_proof, small_calibration, standards, dispute):
    return open_case(small_proof, small_calibration, standards, dispute)


def kinds(ruling):
    return {getattr(finding, "check", None) or finding.kind for finding in ruling.findings}


def test_standards_are_what_was_saved(standards, tmp_path):
    file = tmp_path / "new" / "standards.json"
    standards.save(file)
    assert load_standards(file) == standards


@pytest.mark.parametrize(
    "change",
    [
        {"speed": -1.0},
        {"tight": {}},
        {"loose": {"weights": {"l1": "1"}}},
        {"stage_scales": [1.0, 2.0]},
        {"stage_edges": [0.5]},
        {"stretch": 0},
        {"conditions": {"precision": "int4"}},
        {"more": 1},
    ],
)
def test_what_are_no_standards_is_one_sentence(standards, tmp_path, change):
    file = tmp_path / "standards.json"
    standards.save(file)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=r"standards.json does not hold standards that `polkit calibrate --standards`"):
        load_standards(file)


def test_recommended_accepts_the_honest_proof_at_the_cost_that_it_states(
    small_proof, small_calibration, standards, dispute
):
    ruling = rule("recommended", small_proof, small_calibration, standards, dispute)
    assert ruling.accepted, str(ruling)
    assert ruling.replayed == 1  # the proof has four intervals, 80 would be looked at
    assert ruling.cost.gradient_evaluations == small_proof.steps
    assert ruling.cost.floating_point_operations == small_proof.cost().floating_point_operations
    assert ruling.cost.wall_seconds > 0
    assert str(ruling) == "accepted (recommended: 100% of the training replayed)"
    assert ruling.to_json()["findings"] == []


def test_every_preset_finds_against_a_folder_what_is_wrong_with_it(
    small_proof, small_calibration, standards, dispute, tmp_path
):
    final = small_proof.final_weights()
    straight = pk.interpolation_only(final, small_proof.task, spoof_steps=8, seed=1, out=tmp_path / "s", progress=False)
    found = kinds(rule("recommended", straight, small_calibration, standards, dispute))
    assert {"steps", "start", "limits", "tight"} <= found
    assert "model" not in found
    other = Checkpoint({name: value + 1 for name, value in final.weights.items()}, final.buffers, {})
    ruling = rule("recommended", small_proof, small_calibration, standards, Dispute(other, revealed_seed=1))
    assert kinds(ruling) == {"model", "start"}
    slow = rule("recommended", small_proof, small_calibration, replace(standards, speed=0.1), dispute)
    assert kinds(slow) == {"speed"}
    elsewhere = rule(
        "recommended",
        small_proof,
        small_calibration,
        replace(standards, commitment=Commitment("00" * 32, 256)),
        dispute,
    )
    assert kinds(elsewhere) == {"data"}
    nothing = {part: dict.fromkeys(table, 0.0) for part, table in standards.tight.items()}
    assert kinds(rule("recommended", small_proof, small_calibration, replace(standards, tight=nothing), dispute)) == {
        "tight"
    }
    paper = rule("paper", straight, small_calibration.scaled(1e-3), standards, dispute)
    assert kinds(paper) == {"stages"}
    every = rule("all", straight, small_calibration.scaled(1e-3), standards, dispute)
    assert {"stages", "steps", "start", "straight"} <= kinds(every)
    assert str(every).splitlines()[-1].startswith("  and ")


def test_a_folder_that_cannot_be_judged_is_refused_before_anything_is_replayed(
    copied, small_calibration, standards, dispute, tmp_path
):
    with pytest.raises(ValueError, match="there is no preset 'strict'; the presets are paper, recommended, all"):
        rule("strict", copied, small_calibration, standards, dispute)
    nowhere = rule("paper", tmp_path / "nowhere", small_calibration, standards, dispute)
    assert (nowhere.accepted, nowhere.usable, nowhere.cost.gradient_evaluations) == (False, False, 0)
    (copied.folder / "batches.npy").unlink()
    refused = rule("recommended", copied, small_calibration, standards, dispute)
    assert (refused.accepted, refused.usable, refused.replayed) == (False, True, 0)
    assert "missing" in kinds(refused)


def test_without_recorded_augmentation_only_the_paper_can_judge(copied, small_calibration, standards, dispute):
    file = copied.folder / "augmentation.npy"
    file.unlink()
    manifest = json.loads((copied.folder / "manifest.json").read_text())
    del manifest["files"]["augmentation.npy"]
    (copied.folder / "manifest.json").write_text(json.dumps(manifest))
    assert rule("paper", copied, small_calibration, standards, dispute).accepted
    for preset in ("recommended", "all"):
        assert "recorded" in kinds(rule(preset, copied, small_calibration, standards, dispute))


def test_a_case_replays_each_interval_once_and_bills_each_check_for_all_that_it_looked_at(case, small_task):
    unit = unit_costs(small_task)["update"].floating_point_operations
    first, cost = case.bill(lambda case: [case.replayed(RECORDED, [0, 4]).intervals])
    assert cost.floating_point_operations == 8 * unit
    second, cost = case.bill(lambda case: [case.replayed(RECORDED, [4, 8]).intervals])
    assert cost.floating_point_operations == 8 * unit
    same = [found[found["start"] == 4].reset_index(drop=True) for found in (first[0], second[0])]
    assert same[0].equals(same[1])  # to the seconds that it took
    assert cost.wall_seconds >= second[0].drop_duplicates("start")["seconds"].sum()
    _, cost = case.bill(lambda case: [case.tests()])
    assert cost.gradient_evaluations == 0
    assert cost.floating_point_operations > 0
    _, cost = case.bill(lambda case: [case.replayed(STRETCHED, [0, 8])])
    assert cost.gradient_evaluations == 16 + 8  # four intervals at a time, and the proof has 16 steps


def test_a_stretched_replay_does_not_look_at_the_checkpoints_between(case, small_proof):
    wide = case.replayed(STRETCHED, [0]).intervals
    assert (wide["end"] == 16).all()
    moved = wide[(wide["part"] == "weights") & (wide["distance"] == "l2")]["moved"].item()
    first, last = small_proof.checkpoint(0), small_proof.checkpoint(16)
    assert moved == pytest.approx(pk.distances(last.weights, first.weights)["l2"], rel=1e-9)


def test_lots_and_largest_are_what_they_say(case):
    order = case.magnitudes.sort_values("magnitude", ascending=False)["start"].tolist()
    assert case.largest(2) == sorted(order[:2])
    assert case.by_lot(3) == open_case(case.folder, case.calibration, case.standards, case.dispute).by_lot(3)
    others = replace(case, dispute=replace(case.dispute, lots=5))
    assert len({tuple(replace(others, dispute=replace(case.dispute, lots=n)).by_lot(2)) for n in range(20)}) > 3
    assert looked_at(case).starts == [0, 4, 8, 12]
    assert LARGEST + BY_LOT == 80


def test_each_interval_is_held_against_the_stage_it_stands_in(case, small_calibration):
    edges, scales = (0.0, 0.5), (1e9, 1e-9)
    found = within_stages(case.replayed(REDRAWN, [0, 4, 8, 12]), small_calibration, edges, scales)
    assert {finding.start for finding in found} == {8, 12}
    assert stage_threshold(edges, scales, 0.49) == 1e9


def test_what_starts_at_a_constant_must_start_exactly_there(small_proof, copied):
    assert exact_initial_values(small_proof) == []
    from polkit.proof.checkpoints import write_checkpoint

    first = copied.checkpoint(0)
    name = next(name for name, value in first.weights.items() if torch.equal(value, torch.ones_like(value)))
    changed = {**first.weights, name: first.weights[name] + 1e-6}
    write_checkpoint(copied.folder, 0, replace(first, weights=changed))
    assert [str(finding) for finding in exact_initial_values(copied)] == [
        f"initial: W_0: weights.{name} is not constant 1"
    ]


def test_honest_rulings_name_every_verifier_and_every_machine(small_proof, small_calibration, standards, dispute):
    found = honest_rulings(small_proof, small_calibration, standards, dispute, {"own limits": standards})
    table = found.pivot(index="verifier", columns="conditions", values="accepted")
    assert set(table) == {"other kernels", "another thread", "float64", "bf16", "own limits"}
    assert set(PRESETS) <= set(table.index)
    assert table.loc["recommended", "other kernels"] == table.loc["recommended", "own limits"] == True  # noqa: E712
    assert table.loc["recommended", "bf16"] == False  # noqa: E712 (it computes in three digits)
    costs = found[found["conditions"] == "other kernels"].set_index("verifier")["operations"]
    assert costs["as published"] == small_proof.cost().floating_point_operations  # an interval is an epoch here
    assert costs["all"] > costs["recommended"]
    assert np.isfinite(found.loc[found["verifier"] == "recommended", "loose"]).all()
    other = replace(small_calibration, task=small_calibration.task.replace(momentum=0.5))
    with pytest.raises(ValueError, match="is refused without a replay: task"):
        honest_rulings(small_proof, other, standards, dispute)
