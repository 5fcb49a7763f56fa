"""Checks of where a training came from: its first weights and batches, its data, and how fast it learnt."""

import numpy as np
import torch
from torch import Tensor

from polkit.defences.commitment import Commitment, CommittedData, seed_of
from polkit.proof import Proof, proof_points
from polkit.proof.folder import seed_commitment
from polkit.training import Conditions, Learner, Points, Task, applied, augmentation_order, batch_order, distances
from polkit.training.data import normalise
from polkit.training.step import PARTS, Checkpoint, initial_checkpoint
from polkit.verifier import Reason


def derived_start(proof: Proof, task: Task, commitment: Commitment, seed: int) -> list[Reason]:
    """W_0, the batches and the augmentation must be those of a seed (after Choi et al. 2023).

    task, commitment: the verifier's own. Over points in another order, or more of them, a seed would decide no batch.
    seed: the one that the prover committed to and now reveals
    """
    if proof.manifest["seed_commitment"] != seed_commitment(seed):
        return [Reason("start", "this is not the seed that the manifest commits to")]
    steps, found = proof.steps, []
    if CommittedData(proof_points(proof)).commitment != commitment:
        found.append(Reason("start", "its points are not the committed ones in their order"))
    drawn, claimed = initial_checkpoint(task, seed).weights, proof.checkpoint(0).weights
    apart = distances(drawn, claimed)["linf"]
    if not apart <= 0:  # NaN is apart too
        found.append(Reason("start", f"W_0 is up to {apart:.3g} away from what its seed draws", 0))
    other = np.flatnonzero((batch_order(task, seed, steps) != proof.batches()).any(axis=1))
    if len(other):
        found.append(Reason("start", f"{len(other)} batches from step {other[0]} on are not those of its seed"))
    recorded = proof.augmentation_seeds()
    if recorded is not None and not np.array_equal(recorded, augmentation_order(seed, steps)):
        found.append(Reason("start", "the augmentation is not that of its seed"))
    return found


def start_of_the_data(proof: Proof, task: Task, commitment: Commitment) -> list[Reason]:
    """`derived_start` with the seed that belongs to the committed data: nothing is revealed, nobody has chosen it."""
    return derived_start(proof, task, commitment, seed_of(commitment))


def ends_at(proof: Proof, disputed: Checkpoint) -> list[Reason]:
    """The last checkpoint must be the model that the dispute is about, in weights and buffers.

    Algorithm 2 judges a proof without it, and so passes an honest training of another model, such as a distilled one.
    """
    last = proof.checkpoint(proof.steps).parts()
    apart = {part: distances(last[part], disputed.parts()[part])["linf"] for part in PARTS}
    return [
        Reason("model", f"the {part} end up to {gap:.3g} away from the disputed model's", proof.steps)
        for part, gap in apart.items()
        if not gap <= 0
    ]


def accuracy_trend(
    proof: Proof, task: Task, points: Points, conditions: Conditions, *, share: float, least: float
) -> list[Reason]:
    """Figure 10 as a check: after `share` of its steps an honest training already gets `least` of the test points."""
    step = proof.checkpoint_steps[round(share * (len(proof.checkpoint_steps) - 1))]
    found = accuracy(task, proof.checkpoint(step), points, conditions)
    if found >= least:
        return []
    detail = f"the model of step {step} is right on {found:.1%}, at least {least:.0%} was expected"
    return [Reason("trend", detail, step)]


@torch.no_grad()
def accuracy(task: Task, checkpoint: Checkpoint, points: Points, conditions: Conditions) -> float:
    """The share of points that a checkpoint's model classifies correctly, without augmentation."""
    with applied(conditions):
        learner = Learner(task, conditions.replace(compiled=False))
        learner.load(checkpoint)
        learner.model.eval()
        correct = 0
        for images, labels in zip(points.images.split(500), points.labels.split(500), strict=True):
            predicted = learner.model(normalise(task, learner.unit_pixels(images))).argmax(1)
            correct += int((predicted.cpu() == labels.cpu()).sum())
    return correct / len(points)


def perturbed_points(proof: Proof, committed: Points) -> list[Reason]:
    """Data perturbation (Section IV-B): no point may lie beside a committed one without being that one."""
    near = points_beside(proof, committed)
    return [Reason("perturbed", f"{near.sum()} of {len(near)} points lie beside a committed one")] if near.any() else []


def points_beside(proof: Proof, committed: Points) -> np.ndarray:
    """For each distinct point of a proof, whether it lies suspiciously near to a committed one without being that one.

    Near is nearer than half of the way from that committed image to its own nearest neighbour, in l2 over pixels.
    """
    used = proof_points(proof).take(np.unique(proof.batches()))
    own, _ = _nearest(committed.images, committed.images, least=1)  # another image is a grey level away or more
    gaps, nearest = _nearest(used.images, committed.images)
    return ((gaps > 0) & (gaps < 0.5 * own[nearest])).numpy()


def _nearest(images: Tensor, known: Tensor, least: float = 0.0) -> tuple[Tensor, Tensor]:
    """Distance (l2, float32) of each image to the nearest known one `least` away or more, and its index (int64)."""
    known, found = known.flatten(1).float(), []
    for piece in images.flatten(1).float().split(500):  # all at once, 50,000 images would take 10 GB
        # By matrix products two equal colour images would come out some grey levels apart.
        between = torch.cdist(piece, known, compute_mode="donot_use_mm_for_euclid_dist")
        found.append(between.masked_fill(between < least, torch.inf).min(dim=1))
    return torch.cat([each.values for each in found]), torch.cat([each.indices for each in found])
