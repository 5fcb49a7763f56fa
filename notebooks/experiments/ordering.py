"""Batches fitted to a path: what an adversary who chooses them afterwards can do against `defences.memorisation`."""

import shutil
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from polkit.proof import Proof, fresh_folder, open_proof, proof_points
from polkit.proof.folder import record_path, write_manifest
from polkit.training import Conditions, Learner, Points, applied, derive_seed, normalise, signatures_of

# The share of the points that no interval may use: those whose loss falls least in it. A rank test needs no more to
# be content, and few batches have to change, so that what was computed with them hardly does.
UNFIT = 0.15


def fitted_batches(spoof: Proof, out: str | Path, *, seed: int = 1, conditions: Conditions = Conditions()) -> Proof:
    """The same spoof with a few other points: those that an interval's path happens to make worse give way to others
    that it does not, drawn at random, as if the interval had learnt what is left.

    It costs one forward pass over the data for each checkpoint. Only a verifier who can name the batches before there
    is a path, as a seed from the data does, can tell. Raises FileExistsError if `out` is there already.
    """
    folder, k = Path(out), spoof.checkpoint_interval
    if folder.exists():
        raise FileExistsError(f"{folder} exists already: choose another folder for the spoof")
    generator = np.random.default_rng(derive_seed(seed, "fitted batches"))
    points, batches = proof_points(spoof), spoof.batches()
    for start, fall in zip(spoof.checkpoint_steps, _falls(spoof, points, conditions), strict=False):
        steps = batches[start : start + k]
        unfit = np.argsort(fall)[: int(UNFIT * len(fall))]
        places = np.isin(steps, unfit)
        unused = np.setdiff1d(np.arange(len(fall)), np.concatenate([steps.ravel(), unfit]))
        steps[places] = generator.choice(unused, places.sum(), replace=places.sum() > len(unused))
    partial = fresh_folder(folder)
    shutil.copytree(spoof.folder, partial, dirs_exist_ok=True)
    np.save(partial / "batches.npy", batches)
    np.save(partial / "signatures.npy", signatures_of(points, batches))
    write_manifest(partial, {name: value for name, value in spoof.manifest.items() if name != "files"})
    shutil.copy(record_path(spoof.folder), record_path(folder))
    partial.rename(folder)
    return open_proof(folder)


@torch.no_grad()
def _falls(spoof: Proof, points: Points, conditions: Conditions) -> np.ndarray:
    """float64 (T'/k, n): by how much the loss of each point falls in each interval."""
    losses = []
    with applied(conditions):
        learner = Learner(spoof.task, conditions)
        images = normalise(spoof.task, learner.unit_pixels(points.images))
        images = images.contiguous(memory_format=torch.channels_last)
        for step in spoof.checkpoint_steps:
            learner.load(spoof.checkpoint(step))
            found = F.cross_entropy(learner.model(images), points.labels, reduction="none")
            losses.append(found.double().cpu().numpy())
    return -np.diff(np.stack(losses), axis=0)
