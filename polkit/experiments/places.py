"""An adversary's W_0, the models on the path from there to W_T, and what the optimisation does to a batch, by the place
on the path where the batch is met (Table II and Figure 12)."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pandas as pd
import torch
from torch import Tensor

from polkit.adversary import Passes, make_plan, on_the_path, squared_norm, weight_gradient
from polkit.adversary.attack_2 import settle_batch
from polkit.adversary.path import at_rest
from polkit.defences.origin import accuracy
from polkit.proof import Proof, proof_points
from polkit.training import Checkpoint, Conditions, Learner, Progress, Task, applied, distances, reported, test_points
from polkit.training.step import initial_checkpoint
from polkit.verifier import Calibration, test_initialisation

PLACES = (0.0, 0.15, 0.4, 0.8)  # shares of the straight path from W_0 to W_T
NOISE_WEIGHTS = (0.0, 1e-4, 1e-3, 3e-3, 1e-2, 0.1, 1.0)  # polkit has 1e-3, Zhang et al. 1 (II) and 0.1 (III)
OF_THE_LOSS = ("loss_before", "loss_after", "gradient_squared_before", "gradient_squared_after")


def spread_starts(calibration: Calibration, final: Checkpoint, spreads: Sequence[float], seed: int) -> pd.DataFrame:
    """One draw of W_0, as it is and sorted into the order of W_T, and the same multiplied by each spread: a row each.

    Columns: order, spread, distance to W_T (l2, share of d_ref), and the tensors that the initialisation test rejects.
    """
    first, rows = initial_checkpoint(calibration.task, seed), []
    places = {name: value.flatten().argsort().argsort() for name, value in final.weights.items()}
    dealt = {name: value.flatten().sort().values[places[name]].view_as(value) for name, value in first.weights.items()}
    for order, weights in (("as drawn", first.weights), ("sorted", dealt)):
        for spread in spreads:
            # What must be constant has no spread.
            now = {name: value if value.min() == value.max() else spread * value for name, value in weights.items()}
            rejected = int((~test_initialisation(calibration.task, replace(first, weights=now))["passed"]).sum())
            away = calibration.normalised(distances(now, final.weights))["l2"]
            rows.append({"order": order, "spread": spread, "distance": away, "rejected": rejected})
    return pd.DataFrame(rows)


def models_on_the_path(spoof: Proof, conditions: Conditions) -> pd.DataFrame:
    """Each checkpoint of a spoof by its place on the path: accuracy on test images, loss and ‖∇‖².

    Loss and ‖∇‖² are means over the first eight batches of the spoof, the same at every place."""
    points, order, seeds, rows = proof_points(spoof), spoof.batches(), spoof.augmentation_seeds(), []
    learner, tests = Learner(spoof.task, conditions.replace(compiled=False)), test_points(spoof.task)
    for step in spoof.checkpoint_steps:
        now = spoof.checkpoint(step)
        row = {"place": step / spoof.steps, "accuracy": accuracy(spoof.task, now, tests, conditions)}
        with applied(conditions):
            learner.load(now)
            for t in range(min(8, spoof.steps)):
                loss, *gradient = weight_gradient(learner, points.take(order[t]), int(seeds[t]))
                rows.append(row | {"loss": float(loss), "gradient_squared": float(squared_norm(gradient).detach())})
    return pd.DataFrame(rows).groupby("place", as_index=False).mean()


def optimised_batches(
    final: Checkpoint,
    task: Task,
    *,
    places: Sequence[float] = PLACES,
    noise_weights: Sequence[float] = NOISE_WEIGHTS,
    batches: int = 4,
    iterations: int = 10,
    seed: int = 1,
    keep_normalisation: bool = False,
    conditions: Conditions = Conditions(),
    progress: Progress = True,
) -> pd.DataFrame:
    """Attack II's optimisation of single batches without its stopping test: a row per place, noise weight and batch.

    The batches are the same at every place. Loss and ‖∇‖² after it are those of the images as stored, in uint8.

    final: W_T
    places: shares of the straight path from a sorted W_0 to W_T
    noise_weights: of ‖R‖² beside ‖∇‖² in the objective (Algorithm 4, line 28)
    iterations: N, all of which are taken
    seed, keep_normalisation: as in `Common`
    """
    k, rows = task.checkpoint_interval, []
    steps = -(-batches // k) * k
    drawn = {"spoof_steps": steps, "seed": seed, "keep_normalisation": keep_normalisation, "conditions": conditions}
    plan = make_plan(final, task, **drawn).limited(None)
    cells = list(product(places, noise_weights, range(batches)))
    with applied(conditions):
        passes = Passes(plan.learner())
        for place, weight, step in reported(cells, total=len(cells), title="optimising", progress=progress):
            start = at_rest(on_the_path(plan.first, final, place), plan.first.buffers)
            budget = {"iterations": iterations, "stopping_test": False, "noise_weight": weight}
            (made,), _, trace = settle_batch(passes, plan, step, start, **budget)
            cell = {"keeps_normalisation": keep_normalisation, "place": place, "noise_weight": weight, "batch": step}
            changed = image_change(plan.batch(step).points.images, made.points.images)
            rows.append(cell | {name: trace[name] for name in OF_THE_LOSS} | changed)
    return pd.DataFrame(rows)


def image_change(originals: Tensor, forged: Tensor) -> dict[str, float]:
    """By how many grey levels of 255 the pixels changed, and the mean PSNR of the images that did (NaN if none did)."""
    change, ratios = (forged.int() - originals.int()).abs().double(), psnr(originals, forged)
    levels = {"grey_levels_mean": float(change.mean()), "grey_levels_largest": float(change.max())}
    return levels | {"psnr": float(ratios[ratios.isfinite()].mean())}


def psnr(originals: Tensor, forged: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, 10 log10(255² / mean squared change) in dB; infinite for no change.

    originals, forged: uint8 (n, channels, height, width)
    """
    squared = (forged.double() - originals.double()).square().flatten(1).mean(1)
    return 10 * torch.log10(255**2 / squared)


def by_place(table: pd.DataFrame) -> pd.DataFrame:
    """Means over the batches: a row per kind of W_0, place and noise weight, which are the index.

    table: from `optimised_batches`, such as the published "fashion/places"
    Of `grey_levels_largest` it is the largest. `drop`: how many times smaller the mean ‖∇‖² is afterwards.
    """
    grouped = table.drop(columns="batch").groupby(["keeps_normalisation", "place", "noise_weight"])
    means = grouped.mean().assign(grey_levels_largest=grouped["grey_levels_largest"].max())
    return means.assign(drop=means["gradient_squared_before"] / means["gradient_squared_after"])
