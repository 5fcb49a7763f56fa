"""What the optimisation does to a batch by its place on the path, against the same computation written out plainly."""

import math

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

import polkit as pk
from polkit.adversary import make_plan, on_the_path
from polkit.defences.origin import accuracy
from polkit.experiments.places import by_place, image_change, models_on_the_path, optimised_batches, psnr
from polkit.experiments.published import published
from polkit.proof import proof_points
from polkit.training import build_model, test_points
from polkit.training.data import normalise

EXACT = pk.Conditions(precision="float64")
WEIGHTS = (0.0, 1e-3, 1.0)


@pytest.fixture(scope="module")
def task(small_task):
    return pk.regime("paper").task(small_task.replace(batch_size=16))


@pytest.fixture(scope="module")
def final(small_proof):
    return small_proof.final_weights()


@pytest.fixture(scope="module")
def table(final, task):
    settings = {"places": (0.0, 0.5), "noise_weights": WEIGHTS, "batches": 2, "iterations": 4}
    return optimised_batches(final, task, **settings, conditions=EXACT, progress=False)


class Plain:
    """Loss and gradient of a batch at a place on the path, by plain autograd in float64."""

    def __init__(self, task, final, place, step, keep_normalisation=False):
        plan = make_plan(final, task, spoof_steps=8, seed=1, keep_normalisation=keep_normalisation)
        self.task, self.points, self.model = task, plan.batch(step).points, build_model(task).double().train()
        weights = on_the_path(plan.first, final, place)
        with torch.no_grad():
            for name, value in self.model.named_parameters():
                value.copy_(weights[name])

    def at(self, images, differentiable=False):
        """images: float64 in [0, 1]. Returns loss and ‖∇‖²."""
        loss = F.cross_entropy(self.model(normalise(self.task, images)), self.points.labels)
        gradient = torch.autograd.grad(loss, list(self.model.parameters()), create_graph=differentiable)
        return loss, sum((part**2).sum() for part in gradient)

    def optimised(self, noise_weight, iterations):
        """uint8 images after so many L-BFGS iterations on ‖∇‖² + noise_weight · ‖R‖²."""
        originals = self.points.images.double() / 255
        noise = torch.zeros_like(originals, requires_grad=True)
        optimiser = torch.optim.LBFGS([noise], max_iter=1, history_size=10, tolerance_grad=0.0, tolerance_change=0.0)

        def closure():
            optimiser.zero_grad()
            value = self.at((originals + noise).clamp(0, 1), True)[1] + noise_weight * (noise**2).sum()
            value.backward(inputs=[noise])
            return value

        for _ in range(iterations):
            optimiser.step(closure)
        return ((originals + noise).detach().clamp(0, 1) * 255).round().to(torch.uint8)


def test_there_is_a_row_for_each_place_noise_weight_and_batch(table):
    cells = table[["place", "noise_weight", "batch"]].itertuples(index=False, name=None)
    assert list(cells) == [(place, weight, batch) for place in (0.0, 0.5) for weight in WEIGHTS for batch in (0, 1)]
    assert not table["keeps_normalisation"].any()


@pytest.mark.parametrize(("place", "noise_weight", "step"), [(0.0, 1e-3, 0), (0.5, 0.0, 1), (0.5, 1.0, 0)])
def test_a_row_is_the_plain_computation(table, task, final, place, noise_weight, step):
    row = table.set_index(["place", "noise_weight", "batch"]).loc[(place, noise_weight, step)]
    plain = Plain(task, final, place, step)
    before = plain.points.images
    after = plain.optimised(noise_weight, 4)
    for when, images in (("before", before), ("after", after)):
        loss, squared = plain.at(images.double() / 255)
        found = row[f"loss_{when}"], row[f"gradient_squared_{when}"]
        assert found == pytest.approx((loss.item(), squared.item()), rel=1e-6)
    change = (after.double() - before.double()).abs()
    assert row["grey_levels_mean"] == pytest.approx(float(change.mean()))
    assert row["grey_levels_largest"] == float(change.max())
    each = [10 * math.log10(255**2 / float((image**2).mean())) for image in change if image.any()]
    assert row["psnr"] == pytest.approx(sum(each) / len(each))


def test_a_first_checkpoint_that_keeps_the_trained_normalisation_is_used(final, task):
    settings = {"places": (0.0,), "noise_weights": (0.0,), "batches": 1, "iterations": 1, "conditions": EXACT}
    (row,) = optimised_batches(final, task, keep_normalisation=True, progress=False, **settings).itertuples()
    plain = Plain(task, final, 0.0, 0, keep_normalisation=True)
    assert row.keeps_normalisation
    assert row.loss_before == pytest.approx(plain.at(plain.points.images.double() / 255)[0].item(), rel=1e-6)


def test_without_a_penalty_images_change_more_than_under_a_heavy_one(table):
    means = by_place(table)
    for place in (0.0, 0.5):
        free, held = means.loc[(False, place, 0.0)], means.loc[(False, place, 1.0)]
        assert free["grey_levels_mean"] > held["grey_levels_mean"]
        assert free["psnr"] < held["psnr"] or math.isnan(held["psnr"])


def test_psnr_is_that_of_the_definition_image_by_image():
    before = torch.full((3, 1, 2, 2), 100, dtype=torch.uint8)
    after = before.clone()
    after[1] += 1  # mean squared change 1: 20 log10(255)
    after[2, 0, 0, 0] = 80  # 400 / 4 = 100
    assert psnr(before, after).tolist() == pytest.approx([math.inf, 20 * math.log10(255), 20 * math.log10(25.5)])
    assert image_change(before, after) == {
        "grey_levels_mean": 24 / 12,
        "grey_levels_largest": 20,
        "psnr": pytest.approx(20 * math.log10(255) - 10),
    }
    assert math.isnan(image_change(before, before)["psnr"])


def test_a_drop_is_the_ratio_of_the_means_and_the_largest_change_that_of_all_batches(table):
    cell = table[(table["place"] == 0.5) & (table["noise_weight"] == 0.0)]
    row = by_place(table).loc[(False, 0.5, 0.0)]
    assert row["drop"] == pytest.approx(cell["gradient_squared_before"].sum() / cell["gradient_squared_after"].sum())
    assert row["grey_levels_largest"] == cell["grey_levels_largest"].max()
    assert row["loss_before"] == pytest.approx(cell["loss_before"].mean())


@pytest.fixture(scope="module")
def on_fashion():
    return by_place(published("fashion/places"))


def test_at_two_fifths_of_fashions_path_the_gradient_drops_tenfold_for_few_grey_levels(on_fashion):
    row = on_fashion.loc[(False, 0.4, 3e-3)]
    assert row["drop"] >= 10
    assert row["grey_levels_mean"] < 4
    assert row["psnr"] >= 30


@pytest.mark.parametrize(("kept", "weights"), [(False, [3e-3]), (True, [1e-3, 3e-3, 1e-2])])
def test_of_the_noise_weights_tried_few_do_both(on_fashion, kept, weights):
    rows = on_fashion.loc[(kept, 0.4)]
    assert rows.index[(rows["drop"] >= 10) & (rows["grey_levels_mean"] < 4)].tolist() == weights
    assert rows["drop"].is_monotonic_decreasing
    assert rows["psnr"].is_monotonic_increasing


def test_the_drop_grows_along_the_path_and_the_loss_hardly_falls_where_it_begins(on_fashion):
    for kept in (False, True):
        rows = on_fashion.xs((kept, 3e-3), level=("keeps_normalisation", "noise_weight"))
        left = rows["loss_after"] / rows["loss_before"]
        assert rows["drop"].is_monotonic_increasing
        assert left.is_monotonic_decreasing
        assert left[0.4] < 0.4
    start = on_fashion.loc[(False, 0.0, 3e-3)]
    assert 0.85 < start["loss_after"] / start["loss_before"] < 1


def test_of_fewer_pixels_the_gradient_falls_less_at_a_lower_loss(on_fashion):
    for weight in (0.0, 3e-3):
        digits, fashion = (
            by_place(published("digits/places")).loc[(False, 0.0, weight)],
            on_fashion.loc[(False, 0.15, weight)],
        )
        assert digits["loss_before"] < fashion["loss_before"]
        assert 2 * digits["drop"] < fashion["drop"]


def test_a_published_table_holds_whole_cells():
    for name in ("fashion/places", "digits/places"):
        table = published(name)
        counts = table.groupby(["keeps_normalisation", "place", "noise_weight"]).size()
        assert len(counts) == 2 * 4 * 7
        assert counts.nunique() == 1, name
        before = table.groupby(["keeps_normalisation", "place", "batch"])["gradient_squared_before"]
        assert (before.max() == before.min()).all(), name  # the same batches under every noise weight
        assert pd.notna(table.drop(columns="psnr")).all(axis=None)


def test_the_models_on_the_path_are_worth_what_plain_autograd_says(final, task):
    spoof = pk.interpolation_only(final, task, spoof_steps=8, seed=1, progress=False)
    table = models_on_the_path(spoof, EXACT)
    assert table["place"].tolist() == [0, 0.5, 1]
    for row in table.itertuples():
        found = []
        for step in range(8):
            plain = Plain(task, final, row.place, step)
            points = proof_points(spoof).take(spoof.batches()[step])
            loss, squared = plain.at(points.images.double() / 255)
            found.append((float(loss.detach()), float(squared.detach())))
        assert row.loss == pytest.approx(sum(loss for loss, _ in found) / 8)
        assert row.gradient_squared == pytest.approx(sum(squared for _, squared in found) / 8)
        correct = accuracy(task, spoof.checkpoint(round(8 * row.place)), test_points(task), EXACT)
        assert row.accuracy == pytest.approx(correct)
    assert table["loss"].iloc[-1] < table["loss"].iloc[0]
