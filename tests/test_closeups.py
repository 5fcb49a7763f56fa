"""Close-ups: an interval's replay in its plane and a batch under attack, against the library's own whole results."""

import pandas as pd
import pytest

import polkit as pk
from polkit.adversary import Passes, make_plan, on_the_path
from polkit.adversary.attack_2 import settle_batch
from polkit.adversary.path import at_rest
from polkit.experiments.closeups import attacked_batch, replayed_steps
from polkit.experiments.places import image_change
from polkit.proof import write_checkpoint
from polkit.training import Learner, applied, derive_seed


@pytest.fixture(scope="module")
def table(small_proof, small_calibration):
    return replayed_steps({"honest": small_proof}, small_calibration, [0, 8])


def test_the_plane_keeps_the_true_distances_of_a_plain_replay(table, small_task, small_proof, small_calibration):
    conditions, reference = small_calibration.conditions, small_calibration.reference["weights"]["l2"]
    points, batches = pk.training_points(small_task), small_proof.batches()
    before, claimed = small_proof.checkpoint(8), small_proof.checkpoint(12)
    moved = pk.distances(before.weights, claimed.weights)["l2"] / reference
    rows = table[table["start"] == 8]
    assert rows["update"].tolist() == [0, 1, 2, 3, 4]
    assert set(rows["end"]) == {12}
    with applied(conditions):
        learner = Learner(small_task, conditions)
        learner.load(before)
        for row in rows.itertuples():
            reached = learner.snapshot().weights
            gone, error = (pk.distances(reached, each.weights)["l2"] / reference for each in (before, claimed))
            assert row.moved == pytest.approx(moved, rel=1e-5)
            assert row.error == pytest.approx(error, rel=1e-5)
            assert (row.along**2 + row.beside**2) ** 0.5 == pytest.approx(gone, rel=1e-5)
            assert ((row.along - row.moved) ** 2 + row.beside**2) ** 0.5 == pytest.approx(error, rel=1e-5)
            step = 8 + row.update
            if row.update < 4:
                drawn = derive_seed(0, "redraw", step)
                learner.update(points.take(batches[step]), step=step, augmentation_seed=drawn)


def test_the_last_update_has_the_error_of_the_verdict(table, small_proof, small_calibration):
    rows = pk.verify(small_proof, small_calibration, top_q="all").intervals.query("part == 'weights'")
    errors = rows[rows["distance"] == "l2"].set_index("start")["error"] / small_calibration.reference["weights"]["l2"]
    last = table[table["update"] == 4].set_index("start")["error"]
    assert last.tolist() == pytest.approx(errors[[0, 8]].tolist(), rel=1e-5)


def test_an_interval_without_a_move_is_all_beside_it(copied, small_calibration):
    write_checkpoint(copied.folder, 4, copied.checkpoint(0))
    rows = replayed_steps({"stuck": copied}, small_calibration, [0])
    assert rows["moved"].tolist() == rows["along"].tolist() == [0.0] * 5
    assert rows["beside"].tolist() == rows["error"].tolist()
    assert rows["error"].iloc[-1] > 0


@pytest.mark.parametrize("iterations", [1, 3])
def test_each_row_of_a_batch_is_where_an_attack_of_so_many_iterations_ends(
    iterations, small_task, small_proof, small_calibration
):
    final, weight = small_proof.final_weights(), 1e-2
    images, trace = attacked_batch(final, small_calibration, 0.4, weight, 3, seed=1, progress=False)
    plan = make_plan(final, small_task, spoof_steps=4, seed=1).limited(small_calibration, updates=4)
    with applied(plan.conditions):
        start = at_rest(on_the_path(plan.first, final, 0.4), plan.first.buffers)
        budget = {"iterations": iterations, "stopping_test": False, "noise_weight": weight}
        (made,), update, row = settle_batch(Passes(plan.learner()), plan, 0, start, **budget)
    originals = plan.batch(0).points.images
    expected = {
        "loss": update.loss,
        "gradient_squared": update.gradient_squared,
        "over_limit": update.over_limit,
        "grey_levels": image_change(originals, made.points.images)["grey_levels_mean"],
    }
    pd.testing.assert_series_equal(trace.loc[iterations], pd.Series(expected), check_names=False)
    assert trace.loc[0, "loss"] == row["loss_before"]
    assert trace.loc[0, "gradient_squared"] == row["gradient_squared_before"]
    assert trace.loc[0, "grey_levels"] == 0
    assert images.shape == (4, 3, 1, 8, 8)
    assert images[0].equal(originals[:3])
    assert images[iterations].equal(made.points.images[:3])
    moved = pk.distances(update.reached.weights, start.weights)
    limits = small_calibration.thresholds["weights"]
    assert trace.loc[iterations, "over_limit"] == pytest.approx(max(moved[name] * 4 / limits[name] for name in limits))
