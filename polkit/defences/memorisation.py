"""Memorisation (after Choi et al. 2023, arXiv 2307.00682): a model has just learnt what it was just shown."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from polkit.proof import Proof
from polkit.training import Checkpoint, Conditions, Learner, Task, applied, augment, derive_seed, normalise
from polkit.verifier import Reason, Recorded, recorded_data

EARLY = 14  # intervals; later a training of `digits` has learnt all its points, and one batch leaves hardly a trace
MOST_OTHERS = 2000  # points to compare with
SIGNIFICANCE = 1e-4  # how often batches chosen without regard to the path pass


def memorisation(proof: Proof, task: Task, conditions: Conditions, starts: Sequence[int] | None = None) -> pd.DataFrame:
    """How much more the loss fell on what an interval was trained on than on other training points.

    One row per interval (default: the first 14): start, used (samples), others (points), share of the used ones whose
    loss L(W_t) - L(W_{t+k}) fell by more than the median of the others, and z, the statistic of Mann and Whitney's rank
    test between the two groups: standard normal if the batches have nothing to do with the update, NaN without others.

    Choi et al. compare the training set with held-back data; here both groups are training data, since a straight path
    too leads to a model that knows those better. Raises ProofError if no augmentation was recorded.
    """
    conditions = conditions.replace(augmentation="replay")
    data, rows = recorded_data(proof, conditions), []
    with applied(conditions):
        learner = Learner(task, conditions)
        for start in proof.checkpoint_steps[:-1][:EARLY] if starts is None else starts:
            end = min(start + proof.checkpoint_interval, proof.steps)
            used = data.batches[start:end]
            others = np.setdiff1d(np.arange(len(data.points)), used)
            if not len(others):
                rows.append((start, used.size, 0, math.nan, math.nan))
                continue
            if len(others) > MOST_OTHERS:
                generator = np.random.default_rng(derive_seed(0, "others", start))
                others = np.sort(generator.choice(others, MOST_OTHERS, replace=False))
            images, labels = _shown(learner, data, start, used, others)
            before, after = (_losses(learner, proof.checkpoint(step, task), images, labels) for step in (start, end))
            trained, rest = np.split(before - after, [used.size])
            share = float((trained > np.median(rest)).mean())
            rows.append((start, used.size, len(others), share, _rank_statistic(trained, rest)))
    return pd.DataFrame(rows, columns=["start", "used", "others", "share", "z"])


def memorised(proof: Proof, task: Task, conditions: Conditions) -> list[Reason]:
    """The early intervals together must show that their batches were learnt from: Σz / √n above chance.

    An adversary passes who really trains at the beginning, or who chooses the batches after the path
    (`fitted_batches`), unless the data decide the batches (`start_of_the_data`).
    """
    from scipy import stats  # slow to import

    rows = memorisation(proof, task, conditions)
    found, needed = rows["z"].sum(skipna=False) / math.sqrt(len(rows)), stats.norm.isf(SIGNIFICANCE)
    if found >= needed:  # NaN does not pass
        return []
    why = "" if math.isfinite(found) else " (an interval that uses every point leaves none to compare with)"
    detail = f"the batches of {len(rows)} intervals are remembered with z = {found:.2f}, {needed:.2f} is needed"
    return [Reason("memorised", detail + why, int(rows["start"].iloc[0]))]


def losses_taken(proof: Proof) -> int:
    """How many samples `memorised` runs forward, at both ends of its intervals: all used, and others up to a limit."""
    batches, points = proof.batches(), proof.task.train_size
    used = [batches[start:end] for start, end in pairwise(proof.checkpoint_steps[: EARLY + 1])]
    return 2 * sum(each.size + min(MOST_OTHERS, max(0, points - np.unique(each).size)) for each in used)


def _shown(learner: Learner, data: Recorded, start: int, used: np.ndarray, others: np.ndarray) -> tuple[Tensor, Tensor]:
    """The samples of the interval as training saw them, then the others, shifted by draws of their own."""
    seeds = [*data.augmentation_seeds[start : start + len(used)].tolist(), derive_seed(0, "others shifted", start)]
    chosen = [data.points.take(batch) for batch in (*used, others)]
    pixels = (learner.unit_pixels(points.images) for points in chosen)
    images = [augment(learner.task, shown, seed) for shown, seed in zip(pixels, seeds, strict=True)]
    return torch.cat(images), torch.cat([points.labels for points in chosen])


@torch.no_grad()
def _losses(learner: Learner, checkpoint: Checkpoint, images: Tensor, labels: Tensor) -> np.ndarray:
    learner.load(checkpoint)  # normalised by the statistics of both groups together, since running means lag behind
    logits = learner.model(normalise(learner.task, images).contiguous(memory_format=torch.channels_last))
    return F.cross_entropy(logits, labels, reduction="none").double().cpu().numpy()


def _rank_statistic(left: np.ndarray, right: np.ndarray) -> float:
    """How far Mann and Whitney's U lies above its mean, in standard deviations; NaN if a loss is."""
    from scipy import stats

    pairs = len(left) * len(right)
    above = stats.mannwhitneyu(left, right, method="asymptotic").statistic
    return float((above - pairs / 2) / math.sqrt(pairs * (len(left) + len(right) + 1) / 12))
