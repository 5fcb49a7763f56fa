"""What the benchmarks measure is what it is called; and what does not depend on a machine's speed."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import polkit as pk
from polkit.book.figures import scaling_figure
from tests.benchmarks.growth import METERS, over_interval, over_parameters, over_spoof_steps, over_top_q, slopes
from tests.benchmarks.loops import STATUS, bare_loop, median_seconds
from tests.benchmarks.optimum import cheapest, optimum_table
from tests.benchmarks.steps import step_table
from tests.benchmarks.storage import LAYOUTS, laid_out, read_back, rounded_checkpoint, storage_table

pytestmark = pytest.mark.slow  # for makers, not for readers

EXACT = pk.Conditions(precision="float64")


def test_the_bare_loop_trains_as_a_prover_does(small_task, small_proof):
    reached = bare_loop(small_task, 0, pk.training_points(small_task))
    first, last = (small_proof.checkpoint(step).weights for step in (0, 16))
    assert 0 < pk.distances(reached, last)["l2"] < 0.02 * pk.distances(last, first)["l2"]


def test_medians_of_interleaved_runs():
    order = []
    seconds = median_seconds([lambda: order.append("a"), lambda: order.append("b")], repeats=3)
    assert order == ["a", "b"] * 3
    assert all(0 <= each < 1 for each in seconds)


def test_a_step_is_timed_alone_and_in_every_precision(small_task, monkeypatch):
    taken = iter([8.0, 4.0, 2.0, 1.0, 0.5, 0.25])  # the bare loop twice, since the first warms up
    monkeypatch.setattr("tests.benchmarks.steps.waited", lambda conditions, run: (run(), next(taken))[1])
    table = step_table({"small": small_task}, pk.Conditions(), epochs=1)
    assert table.to_numpy().tolist() == [
        ["small", "float32", "bare", 200],
        ["small", "float32", "update", 100],
        ["small", "float32", "objective", 50],
        ["small", "bf16", "update", 25],
        ["small", "bf16", "objective", 12.5],
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_gives_back_every_bit(layout):
    generator = np.random.default_rng(1)
    values, before = (generator.integers(0, 2**32, 1001, dtype=np.uint32).view(np.float32) for _ in range(2))
    raw = laid_out(layout, values, before)
    assert len(raw) == values.nbytes
    assert (read_back(layout, raw, before).view(np.uint32) == values.view(np.uint32)).all()


def test_byte_planes_put_the_exponents_side_by_side():
    assert laid_out("byte planes", np.array([1.0, -2.0], np.float32), np.zeros(2, np.float32)) == bytes(
        [0, 0, 0, 0, 0x80, 0, 0x3F, 0xC0]
    )


def test_rounding_errs_by_half_a_level_at_most(small_proof):
    before, now = small_proof.checkpoint(4), small_proof.checkpoint(8)
    for name, levels in (("difference in 8 bits", 127), ("difference in 4 bits", 7)):
        rounded = rounded_checkpoint(name, now, before)
        for key, value in now.weights.items():
            level = (value - before.weights[key]).abs().max() / levels
            assert (rounded.weights[key] - value).abs().max() <= 0.501 * level
    half = rounded_checkpoint("float16", now, before)
    assert torch.equal(half.weights["head.bias"], now.weights["head.bias"].half().float())


def test_the_storage_table(small_proof, small_calibration):
    table = storage_table(small_proof, small_calibration, count=1)
    lossless, rounded = (table[table["kind"] == kind] for kind in ("lossless", "rounded"))
    assert set(table["when"]) == {"early", "late"}
    assert lossless["share_of_bytes"].between(0.5, 1.01).all()  # float32 weights hold little air
    coarse, fine = (
        rounded.loc[rounded["encoding"] == name, "l2"].to_numpy() for name in ("difference in 4 bits", "float16")
    )
    assert (coarse > fine).all()
    assert (fine > 0).all()


def test_slopes_are_exponents():
    rows = [
        {
            "party": "prove",
            "variable": "T",
            "value": x,
            "floating_point_operations": 7 * x,
            "stored_bytes": 5 / x,
            "wall_seconds": 0.0,
        }
        for x in (1, 10, 100)
    ]
    found = slopes(pd.DataFrame(rows)).set_index("meter")
    assert found["slope"].to_dict() == pytest.approx({"floating_point_operations": 1, "stored_bytes": -1})
    assert found["largest_factor_off"].tolist() == pytest.approx([1, 1])


def test_the_scaling_figure_says_the_exponents(small_task):
    rows = [
        {
            "party": party,
            "variable": "T",
            "value": x,
            "floating_point_operations": 7 * x**power,
            "stored_bytes": 0,
            "wall_seconds": 2.0 * x,
        }
        for party, power in (("prove", 1), ("attack_2", 2))
        for x in (1, 10, 100)
    ]
    table = pd.DataFrame(rows)
    figure = scaling_figure(table, slopes(table), "T")
    assert figure.summary == (
        "Exponents of growth with T, fitted: prove: operations 1.00, seconds 1.00; "
        "Attack II: operations 2.00, seconds 1.00."
    )
    assert [list(line.y) for line in figure.plot.data if line.xaxis == "x"] == [[7, 70, 700], [7, 700, 70_000]]


def test_costs_grow_as_counted(small_task):
    update = pk.unit_costs(small_task)["update"].floating_point_operations
    table = pd.DataFrame(
        [*over_interval((4, 8), small_task), *over_top_q((1, 2), small_task), *over_spoof_steps((4, 8), small_task)]
    )
    assert (table[METERS[0]] > 0).all()
    table = table.set_index(["party", "variable", "value"]).sort_index()
    operations = table[METERS[0]]
    assert operations["prove", "k"].tolist() == [16 * update] * 2
    assert operations["verify", "Q"].tolist() == [4 * update, 8 * update]  # k = 1, four epochs
    assert operations["interpolation_only", "T'"].tolist() == [4 * update, 8 * update]
    assert operations["attack_2", "T'"][8] == 2 * operations["attack_2", "T'"][4]
    stored = table["stored_bytes"]["prove", "k"]
    assert stored[4] > 1.5 * stored[8]


def test_a_larger_model_costs_more():
    small, large = over_parameters(("resnet8", "resnet20"), repeats=1)
    assert (small["value"], large["value"]) == (19_218, 269_722)
    assert all(small[meter] < large[meter] for meter in METERS)


def test_the_optimum_is_the_cheapest_that_always_passes(small_proof, small_calibration):
    table = optimum_table(small_proof, small_calibration, lengths=(8,))
    assert table["attack"].value_counts().to_dict() == {"interpolation_only": 4, "attack_2": 1, "attack_3": 1}
    invented = pd.concat(
        [
            table.head(2).assign(accepted=[True, False], operations=[0.3, 0.1]),
            table.head(2).assign(accepted=True, operations=[0.3, 0.1]),
        ]
    )
    best = cheapest(invented)
    assert best["replayed_intervals"].tolist() == [0]
    assert best["operations"].tolist() == pytest.approx([0.3])
    assert best["trainings"].tolist() == [2]


PEAK = """
import sys
import polkit as pk
from tests.benchmarks.loops import peak_bytes
from polkit.verifier.calibration import load_calibration
from dataclasses import replace
proof, calibration = pk.open_proof(sys.argv[1]), load_calibration(sys.argv[2])
calibration = replace(calibration, task=proof.task)
assert pk.verify(proof, calibration, top_q=1).usable
print(peak_bytes())
"""


@pytest.mark.skipif(not STATUS.exists(), reason="reads Linux's /proc")
def test_the_verifiers_memory_does_not_grow_with_the_number_of_checkpoints(small_task, small_calibration, tmp_path):
    small_calibration.save(tmp_path / "calibration.json")
    task = small_task.replace(train_size=8, batch_size=8, epochs=1000)
    peaks = []
    for interval in (100, 1):
        proof = pk.prove(replace(task, checkpoint_interval=interval), out=tmp_path / str(interval), progress=False)
        assert len(proof.checkpoint_steps) == 1000 // interval + 1
        found = subprocess.check_output([sys.executable, "-c", PEAK, proof.folder, tmp_path / "calibration.json"])
        peaks.append(int(found))
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.skipif(not STATUS.exists(), reason="reads Linux's /proc")
def test_a_childs_peak_is_its_own():
    small = "from tests.benchmarks.loops import peak_bytes; print(peak_bytes())"
    large = f"held = bytearray(2**31); held[::4096] = bytes(2**19); {small}"
    ballast = bytearray(2**30)
    ballast[::4096] = bytes([1]) * 2**18  # every page is touched
    found, more = (int(subprocess.check_output([sys.executable, "-c", code])) for code in (small, large))
    assert len(ballast) == 2**30
    assert found < 2**30 < 2**31 < more
