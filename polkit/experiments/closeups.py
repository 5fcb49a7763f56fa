"""Two things seen close up: the replay of an interval, update by update, and Attack II on one batch."""

from collections.abc import Mapping, Sequence
from itertools import product

import pandas as pd
import torch
from torch import Tensor

from polkit.adversary import Passes, make_plan, on_the_path
from polkit.adversary.attack_2 import perturbing
from polkit.adversary.path import at_rest
from polkit.experiments.places import image_change
from polkit.proof import Proof
from polkit.training import Checkpoint, Learner, applied, reported
from polkit.verifier import Calibration, recorded_data
from polkit.verifier.replay import reached_after


def replayed_steps(
    proofs: Mapping[str, Proof], calibration: Calibration, starts: Sequence[int], seed: int = 0
) -> pd.DataFrame:
    """Where the replay of the intervals from `starts` is after each update, in l2 of the weights, as shares of d_ref.

    `along`: the component of W'_{t+i} - W_t along the recorded move W_{t+k} - W_t; `beside`: the norm of the rest;
    `moved`: the length of that move; `error`: the distance from W_{t+k}; seed: of the verifier's draws
    """
    rows, reference, conditions = [], calibration.reference["weights"]["l2"], calibration.conditions
    with applied(conditions):
        learner = Learner(calibration.task, conditions)
        for (name, proof), start in product(proofs.items(), starts):
            end = min(start + proof.checkpoint_interval, proof.steps)
            first, data, steps = proof.checkpoint(start), recorded_data(proof, conditions), range(1, end - start + 1)
            reached = reached_after(learner, first, data, start, steps, seed)
            taken = [first, *reached.values(), proof.checkpoint(end)]
            *gone, move = (
                torch.cat([(one.weights[w] - first.weights[w]).flatten() for w in one.weights]) for one in taken
            )
            ahead = move / move.norm().clamp(min=1e-30)  # without a move, all of the way is beside it
            for update, away in enumerate(gone):
                found = away @ ahead, (away - (away @ ahead) * ahead).norm(), move.norm(), (away - move).norm()
                rows.append([name, start, end, update, *(float(each) / reference for each in found)])
    return pd.DataFrame(rows, columns=["proof", "start", "end", "update", "along", "beside", "moved", "error"])


def attacked_batch(
    final: Checkpoint, calibration: Calibration, place: float, noise_weight: float, iterations: int = 10, **common
) -> tuple[Tensor, pd.DataFrame]:
    """Attack II on its first batch, met at this share of the path, before and after each of N evaluations.

    common: as for `make_plan`

    Returns three of the images with X + R as they would be stored, uint8 (N + 1, 3, channels, height, width), and rows:
    loss, gradient_squared, over_limit (the update's length as a multiple of δ/k), grey_levels (mean change of a pixel).
    """
    images, rows, k = [], [], calibration.task.checkpoint_interval
    plan = make_plan(final, calibration.task, spoof_steps=k, **common).limited(calibration, updates=k)
    budget = {"iterations": iterations, "stopping_test": False, "noise_weight": noise_weight}
    with applied(plan.conditions):
        start = at_rest(on_the_path(plan.first, final, place), plan.first.buffers)
        noise = perturbing(Passes(plan.learner()), plan, 0, start, **budget)
        total = iterations + 1
        for done in reported(range(total), total=total, title="optimising", progress=plan.progress):
            if done:
                noise.improve()
            (batch,) = tried = noise.perturbed()
            update = noise.try_batches(tried)
            changed = image_change(noise.originals[0].points.images, batch.points.images)["grey_levels_mean"]
            rows.append([update.loss, update.gradient_squared, update.over_limit, changed])
            images.append(batch.points.images[:3].cpu())
    return torch.stack(images), pd.DataFrame(rows, columns=["loss", "gradient_squared", "over_limit", "grey_levels"])
