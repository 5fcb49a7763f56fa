"""Calibrating δ: where it lies, what it costs, and the file that it is kept in."""

import json
import math
from itertools import product

import numpy as np
import pandas as pd
import pytest

import polkit as pk
from polkit.experiments import prepare
from polkit.prover import train
from polkit.training import DISTANCES, PARTS, derive_seed
from polkit.verifier import PAPER, STRICT, calibration, load_calibration
from polkit.verifier.calibration import thresholds_of, train_reference
from polkit.verifier.replay import replay


def test_delta_lies_a_margin_above_the_honest_errors_and_below_d_ref(small_proof, small_calibration):
    conditions = pk.Conditions(augmentation="redraw")
    frames = [
        replay(small_proof, small_proof.task, conditions, [0, 4, 8, 12], derive_seed(1, "replay", number))
        for number in range(2)
    ]
    held_out_runs, held_out_intervals = [], []
    for part in PARTS:
        for distance in pk.DISTANCES:
            errors = [
                frame[(frame["part"] == part) & (frame["distance"] == distance)]["error"].max() for frame in frames
            ]
            assert small_calibration.honest_maximum[part][distance] == max(errors)
            assert small_calibration.thresholds[part][distance] == pytest.approx(1.5 * max(errors))
            assert small_calibration.thresholds[part][distance] < small_calibration.reference[part][distance]
    for mine, other in ((0, 1), (1, 0)):
        above = set()
        for row in frames[mine].itertuples():
            same = (frames[other]["part"] == row.part) & (frames[other]["distance"] == row.distance)
            if row.error > 1.5 * frames[other][same]["error"].max():
                above.add(row.start)
        held_out_runs.append(bool(above))
        held_out_intervals.append(len(above) / 4)
    assert small_calibration.false_rejection_rate == np.mean(held_out_runs)
    assert small_calibration.interval_false_rejection_rate == np.mean(held_out_intervals)


def test_d_ref_is_the_distance_to_an_independent_training(small_task, small_proof, small_calibration):
    points, conditions = pk.training_points(small_task), pk.Conditions(augmentation="redraw")
    second = train(small_task, derive_seed(1, "reference"), conditions, points)
    own = small_proof.final_weights()
    assert pk.distances(own.weights, second.weights) == small_calibration.reference["weights"]
    assert pk.distances(own.buffers, second.buffers) == small_calibration.reference["buffers"]
    normalised = small_calibration.normalised(pk.distances(own.weights, second.weights))
    assert set(normalised.values()) == {1.0}


def test_the_model_that_tells_d_ref_is_trained_once_for_all_proofs_of_a_task(small_task, tmp_path, monkeypatch):
    monkeypatch.setenv("POLKIT_HOME", str(tmp_path))
    trained, real = [], prepare.train_reference
    monkeypatch.setattr(prepare, "train_reference", lambda *given: trained.append(given) or real(*given))
    settings = {"workers": 1, "progress": False}
    (_, first), (proof, second) = (pk.prepare(small_task, seed=seed, **settings) for seed in (4, 5))
    assert len(trained) == 1
    alone = pk.calibrate(proof, first_epochs=25, out=tmp_path / "alone.json", **settings)
    assert first.reference != second.reference == alone.reference
    assert second.thresholds == alone.thresholds
    assert second.cost.gradient_evaluations == alone.cost.gradient_evaluations


@pytest.mark.slow  # the chapters prepare, too
@pytest.mark.parametrize("workers", [1, 2])
def test_preparing_is_proving_and_calibrating_side_by_side(small_task, workers):
    proof, calibration = pk.prepare(small_task, seed=4 + workers, workers=workers, progress=False)
    again = pk.prove(small_task, 4 + workers, progress=False)
    alone = pk.calibrate(again, workers=1, first_epochs=25, progress=False)
    assert (proof, calibration) == (again, alone)  # the second call reads what the first left
    out = again.folder.with_name("direct.json")
    direct = pk.calibrate(again, workers=1, first_epochs=25, progress=False, out=out)
    assert (calibration.thresholds, calibration.reference) == (direct.thresholds, direct.reference)


def test_where_nothing_is_drawn_one_replay_stands_for_all(small_task, tmp_path):
    task, settings = PAPER.task(small_task), {"regime": PAPER, "workers": 1, "progress": False}
    proof = pk.prove(task, seed=4, progress=False)
    twice, often = (pk.calibrate(proof, replays=count, out=tmp_path / f"{count}.json", **settings) for count in (2, 5))
    assert twice.cost.gradient_evaluations == often.cost.gradient_evaluations == 2 * task.steps  # and d_ref's model
    assert twice.thresholds == often.thresholds
    rows = replay(proof, task, PAPER.conditions(pk.Conditions()), seed=9)
    largest = rows[rows["part"] == "weights"].groupby("distance")["error"].max()
    assert twice.honest_maximum["weights"] == largest.to_dict()
    assert (often.replays, often.false_rejection_rate) == (5, 0)


def test_only_the_first_epochs_are_replayed_if_asked(small_task, small_proof, small_calibration, tmp_path):
    early = pk.calibrate(small_proof, replays=2, workers=1, first_epochs=1, out=tmp_path / "c.json", progress=False)
    assert early.cost.gradient_evaluations == small_task.steps + 2 * small_task.steps_per_epoch
    assert early.reference == small_calibration.reference
    for part in PARTS:
        for name, value in early.thresholds[part].items():
            assert value <= small_calibration.thresholds[part][name]


def test_a_replay_that_can_be_repeated_calibrates_to_zero(small_proof, tmp_path):
    recorded = STRICT.replace(augmentation="recorded")
    exact = pk.calibrate(small_proof, regime=recorded, replays=2, workers=1, out=tmp_path / "c.json", progress=False)
    assert all(value == 0 for table in exact.thresholds.values() for value in table.values())
    assert pk.verify(small_proof, exact, top_q="all").accepted


def test_a_calibration_survives_its_file(small_calibration, tmp_path):
    small_calibration.save(tmp_path / "c.json")
    assert load_calibration(tmp_path / "c.json") == small_calibration
    (tmp_path / "c.json").write_text('{"task": 1}')
    with pytest.raises(ValueError, match="is not a calibration"):
        load_calibration(tmp_path / "c.json")


def test_scaling_moves_every_threshold(small_calibration):
    doubled = small_calibration.scaled(2)
    assert doubled.thresholds["buffers"]["l1"] == 2 * small_calibration.thresholds["buffers"]["l1"]
    assert doubled.reference == small_calibration.reference


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"replays": 1}, "replays must be a whole number from 2 up, not 1"), ({"margin": 1.0}, "greater than 1")],
)
def test_settings_that_cannot_calibrate(small_proof, settings, message):
    with pytest.raises(ValueError, match=message):
        pk.calibrate(small_proof, progress=False, **settings)


def test_where_no_threshold_exists_that_is_said(small_proof, tmp_path):
    with pytest.raises(ValueError, match=r"no threshold exists for the weights in l1: .* not below d_ref"):
        pk.calibrate(small_proof, replays=2, margin=1e6, workers=1, out=tmp_path / "c.json", progress=False)
    assert not (tmp_path / "c.json").exists()


def test_an_honest_error_that_is_no_number_gives_no_delta(small_calibration):
    """The largest of the others would be a δ that the honest proof does not pass."""
    rows = product((0, 1), PARTS, DISTANCES, (0, 4))
    errors = pd.DataFrame(rows, columns=["replay", "part", "distance", "start"]).assign(error=0.0)
    errors.loc[0, "error"] = math.nan
    with pytest.raises(ValueError, match="no threshold exists for the weights in l1: the honest errors reach nan"):
        thresholds_of(errors, small_calibration.reference, 1.5)


def test_a_distance_of_the_buffers_without_a_delta_decides_nothing(small_proof, small_calibration, tmp_path):
    """Honest replays of a ResNet-20 on colour images reach 0.87 of d_ref in l∞ of the running variances."""
    reference, highest = small_calibration.reference, small_calibration.honest_maximum
    room = {part: {name: reference[part][name] / highest[part][name] for name in DISTANCES} for part in PARTS}
    tightest = min(room["buffers"], key=room["buffers"].get)
    margin, file = room["buffers"][tightest] * 1.01, tmp_path / "c.json"
    assert margin < min(room["weights"].values()), "the test needs a margin that the weights can still afford"
    pk.calibrate(small_proof, replays=4, margin=margin, workers=1, out=file, progress=False)
    assert "Infinity" not in file.read_text()
    wide = load_calibration(file)
    assert [name for name, value in wide.thresholds["buffers"].items() if math.isinf(value)] == [tightest]
    verdict = pk.verify(small_proof, wide, top_q="all")
    assert verdict.accepted
    judged = verdict.intervals[(verdict.intervals["part"] == "buffers") & (verdict.intervals["distance"] == tightest)]
    assert judged["error"].max() > 0
    found = pk.verify(small_proof, wide.scaled(1e-9), top_q="all")
    assert not found.accepted
    assert not any(f"{tightest} of the buffers" in reason.detail for reason in found.reasons)
    assert wide.false_rejection_rate == 0


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[]", b"null", b"{}", b"[" * 100_000])
def test_a_corrupt_file_is_one_clear_sentence(tmp_path, content):
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"^\S+c\.json is not a calibration that `polkit calibrate` wrote \([^\n]*\)$"):
        load_calibration(tmp_path / "c.json")


@pytest.mark.parametrize(
    "wrong",
    [
        *({"thresholds": {}}, {"reference": None}, {"thresholds": {"weights": {"l1": 1.0}}}, {"margin": "1.5"}),
        *({"replays": True}, {"margin": -1}, {"cost": {"wall_seconds": 10**400}}, {"more": 1}),
        *({"conditions": {"threads": 10**6}}, {"conditions": {"device": "xla:1"}}, {"conditions": {"threads": "1"}}),
    ],
)
def test_a_calibration_with_something_wrong_is_refused_when_it_is_read(small_calibration, tmp_path, wrong):
    small_calibration.save(tmp_path / "c.json")
    values = json.loads((tmp_path / "c.json").read_text())
    (tmp_path / "c.json").write_text(json.dumps(values | wrong))
    with pytest.raises(ValueError, match="is not a calibration"):
        load_calibration(tmp_path / "c.json")


def test_numbers_of_numpy_are_taken(small_proof, tmp_path, monkeypatch):
    monkeypatch.setenv("POLKIT_HOME", str(tmp_path))
    numbers = {"replays": np.int64(2), "first_epochs": np.int64(1), "seed": np.int64(1), "workers": np.int64(1)}
    assert pk.calibrate(small_proof, **numbers, progress=False).replays == 2


def test_a_damaged_proof_is_refused_whether_its_calibration_is_kept_or_not(copied, tmp_path, monkeypatch):
    monkeypatch.setenv("POLKIT_HOME", str(tmp_path / "home"))
    asked = {"replays": 2, "first_epochs": 1, "workers": 1, "progress": False}
    pk.calibrate(copied, **asked)
    file = copied.folder / "checkpoints" / "step-00000004.safetensors"
    file = file if file.exists() else sorted((copied.folder / "checkpoints").iterdir())[1]
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(ValueError, match="no whole proof to calibrate on"):
        pk.calibrate(copied, **asked)


def test_its_seconds_are_the_sum_of_the_workers(small_proof, tmp_path, monkeypatch):
    def slow(jobs, *_):
        for function, given in jobs:
            made = function(*given)
            yield (made[0], 100.0) if function is train_reference else [row | {"seconds": 10.0} for row in made]

    monkeypatch.setattr(calibration, "run_jobs", slow)
    known = pk.calibrate(small_proof, replays=2, out=tmp_path / "c.json", progress=False)
    assert known.cost.wall_seconds == 100 + 2 * 4 * 10  # replays of four intervals
