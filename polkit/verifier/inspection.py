"""All that a verifier looks at before it computes a step: the claims, the files, the data, the checkpoints."""

import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from polkit.proof import Proof, ProofError, checkpoint_name, open_proof, proof_points, shown
from polkit.proof.folder import OPTIONAL_FILES, most_points
from polkit.proof.untrusted import open_plain
from polkit.training import NAMED_TASKS, Checkpoint, Task, distances, is_debris, signatures_of
from polkit.training.models import Distribution, build_model, initial_buffers, weight_distributions
from polkit.training.step import LARGEST
from polkit.verifier.regime import OPTIMISER

MOST_MILESTONES = 1000  # each is looked at in each step
NAMED_FILES = 20  # reasons of one kind that name a file; an adversary can add a million files
WIDEST = 8  # batches of the verifier's own size, which must have memory for one that a prover chose
MAGNITUDES = ["start", "end", "epoch", "magnitude"]


@dataclass(frozen=True)
class Reason:
    """Why a proof was rejected, in one line of printable text."""

    kind: str  # unusable, task, missing, extra, digest, malformed, not finite, initialisation, signature, error, …
    detail: str
    step: int | None = None  # the first of the interval that it is about; None for the proof as a whole

    def __post_init__(self):
        object.__setattr__(self, "detail", shown(self.detail))

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


@dataclass(frozen=True)
class Inspection:
    """What a verifier knows of a folder before it computes a step."""

    proof: Proof | None  # None if there is none; if every file has its digest, bound to the files as they are
    task: Task  # the verifier's, with what the prover decides
    reasons: list[Reason]  # to reject it
    magnitudes: pd.DataFrame  # how far each interval moved the weights (`MAGNITUDES`, in l2)
    initialisation: pd.DataFrame  # the table of `test_initialisation`


def inspect_proof(source: Proof | str | Path, task: Task, prover_decides: Iterable[str] = ()) -> Inspection:
    """All of Algorithm 2 that replays nothing. A bad proof raises nothing; OSError if the verifier has no such data.

    source: the folder, or a proof, whose manifest is read again
    prover_decides: those of `SETTINGS` that are taken from the proof
    """
    magnitudes, initial = pd.DataFrame(columns=MAGNITUDES), pd.DataFrame()
    try:
        proof = open_proof(source.folder if isinstance(source, Proof) else source)
        per_epoch, task = task.steps_per_epoch, replayed_task(proof, task, prover_decides)
        reasons = check_claims(proof, task) + check_optimiser(task)
    except ProofError as error:
        return Inspection(None, task, [Reason("unusable", str(error))], magnitudes, initial)
    if not reasons:
        reasons = check_files(proof, task)
        if not any(reason.kind == "malformed" for reason in reasons):
            # From here on, no file may change; where one was not what the manifest names, nothing is accepted anyway.
            proof = replace(proof, bound=not reasons)
            magnitudes, initial, found = check_checkpoints(proof, task, per_epoch)
            reasons += check_data(proof) + found
    return Inspection(proof, task, reasons, magnitudes, initial)


def replayed_task(proof: Proof, task: Task, prover_decides: Iterable[str]) -> Task:
    """The verifier's task with what the prover decides. Raises ProofError if no training of the task can have that."""
    try:
        chosen = task.replace(**{name: getattr(proof.task, name) for name in prover_decides})
        if chosen.batch_size > (most := WIDEST * task.batch_size):
            raise ValueError(f"batch_size {chosen.batch_size}: a verifier of this task has memory for {most}")
        return chosen
    except ValueError as error:
        raise ProofError(f"manifest.json claims what no training can have ({error})") from error


def check_optimiser(task: Task) -> list[Reason]:
    """No update can be computed with a negative or infinite rate, or a rate divided by nothing."""
    numbers = {name: getattr(task, name) for name in OPTIMISER if name != "milestones"}
    details = [
        f"{name} = {value}, no optimiser has that"
        for name, value in numbers.items()
        if not 0 <= value <= LARGEST or (name, value) == ("learning_rate_drop", 0)
    ]
    if len(task.milestones) > MOST_MILESTONES:
        details.append(f"{len(task.milestones)} milestones, more than {MOST_MILESTONES}")
    try:
        last_rate = 0.0 if details else task.learning_rate_at(task.steps - 1)  # after the most drops
    except (OverflowError, ZeroDivisionError):  # of the drop, raised to the number of milestones
        last_rate = math.inf
    if not last_rate <= LARGEST:
        details.append("a learning rate that becomes no number after its drops")
    return [Reason("task", f"manifest.json claims {detail}") for detail in details]


def check_claims(proof: Proof, task: Task) -> list[Reason]:
    """The verifier's task decides; a proof may bring other data and fewer steps, nothing else."""
    mine, claimed = task.to_json(), proof.task.to_json()
    details = [f"{name} = {claimed[name]}, this task has {mine[name]}" for name in task.differs(proof.task)]
    if proof.checkpoint_interval != task.checkpoint_interval:
        details.append(f"k = {proof.checkpoint_interval}, the task has {task.checkpoint_interval}")
    if proof.steps > task.steps:
        details.append(f"{proof.steps} steps, no training of this task has more than {task.steps}")
    if proof.task.train_size > (most := most_points(task)):
        details.append(f"{proof.task.train_size} training images, a proof of this task has {most} at most")
    named = NAMED_TASKS.get(proof.task.data)
    if proof.task.data != task.data and named and named.image_shape != task.image_shape:
        details.append(f"the data of {proof.task.data}, this task's images are {task.image_shape}")
    return [Reason("task", f"manifest.json claims {detail}") for detail in details]


def check_files(proof: Proof, task: Task) -> list[Reason]:
    """Exactly a proof's files are there, each with the digest that the manifest names; none too large is hashed."""
    expected = {"batches.npy", "signatures.npy", *map(checkpoint_name, proof.checkpoint_steps)}
    listed = proof.manifest["files"]
    most = len(expected) + len(OPTIONAL_FILES) + NAMED_FILES
    inner = proof.folder / "checkpoints"
    if os.path.lexists(inner) and (inner.is_symlink() or not inner.is_dir()):
        return [Reason("malformed", "checkpoints is a link or a file, not a folder")]
    try:
        present = set(islice(_present(proof.folder), 2 * most + 2)) - {"manifest.json"}  # macOS adds one for each
    except OSError as error:
        return [Reason("malformed", f"the folder cannot be read ({error.strerror})")]
    own = {name for name in present if not is_debris(name)}
    extra = _named("extra", own - expected - OPTIONAL_FILES)
    if len(own) > most or len(present) > 2 * most:
        return [*extra, Reason("extra", f"the folder holds more than {most} files, a proof of these steps does not")]
    reasons = _named("missing", expected - present) + extra
    reasons += _named("missing", set(listed) - present - expected, " is in the manifest")
    for name in sorted(present & (expected | OPTIONAL_FILES)):
        try:
            with open_plain(proof.folder / name, name, proof.size_limit(name, task)) as opened:
                size = os.fstat(opened.fileno()).st_size
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
        except ProofError as error:
            reasons.append(Reason("malformed", str(error)))
            continue
        if listed.get(name) != {"bytes": size, "sha256": digest}:
            reasons.append(Reason("digest", f"{name} is not the file that manifest.json names"))
    return reasons


def _present(folder: Path, inside: str = "") -> Iterator[str]:
    """Everything in a proof's folder, and in its checkpoints; of other folders only their name."""
    with os.scandir(folder / inside) as entries:
        for entry in entries:
            name = inside + entry.name
            if not entry.is_dir(follow_symlinks=False):
                yield name
            elif name == "checkpoints":
                yield from _present(folder, "checkpoints/")
            else:
                yield f"{name}/"


def _named(kind: str, names: set[str], ending: str = "") -> list[Reason]:
    """One reason for each name, of many only the first."""
    reasons = [Reason(kind, f"{name}{ending}") for name in sorted(names)[:NAMED_FILES]]
    more = len(names) - len(reasons)
    return reasons + ([Reason(kind, f"and {more} more")] if more else [])


def check_data(proof: Proof) -> list[Reason]:
    """Indices in range, augmentation seeds as they must be, and every batch's signature (line 24)."""
    try:
        points, batches, claimed = proof_points(proof), proof.batches(), proof.signatures()
        proof.augmentation_seeds()
    except ProofError as error:
        return [Reason("malformed", str(error))]
    outside = (batches < 0) | (batches >= len(points))
    if outside.any():
        step = int(np.argmax(outside.any(axis=1)))
        return [Reason("malformed", f"batches.npy: step {step} names a point outside 0 to {len(points) - 1}")]
    wrong = np.flatnonzero((signatures_of(points, batches) != claimed).any(axis=1))
    return [Reason("signature", f"the batch of step {step} is not the one that was signed") for step in wrong]


def check_checkpoints(proof: Proof, task: Task, per_epoch: int) -> tuple[pd.DataFrame, pd.DataFrame, list[Reason]]:
    """One pass over 𝕎: each is whole and finite, W_0 is a fresh draw, and how far each interval moved.

    per_epoch: S of the verifier's own task, which says how often Q intervals are replayed, whatever B a proof claims
    Returns the `MAGNITUDES` of the intervals whose two ends can be read, the initialisation test, and the reasons.
    """
    reasons, rows, initial, previous = [], [], pd.DataFrame(), None
    for step in proof.checkpoint_steps:
        try:
            current = proof.checkpoint(step, task)
        except ProofError as error:
            # A file that is not there is already a reason of its own, from check_files.
            if (proof.folder / checkpoint_name(step)).is_file():
                reasons.append(Reason("malformed", str(error)))
            previous = None
            continue
        for part, tensors in ({} if current.is_finite() else current.parts()).items():
            bad = [name for name, value in tensors.items() if not bool(value.isfinite().all())]
            if bad:
                reasons.append(Reason("not finite", f"{checkpoint_name(step)}: {part}.{bad[0]} holds NaN or infinity"))
        if step == 0:
            initial = test_initialisation(task, current)
            for row in initial[~initial["passed"]].itertuples():
                detail = f"W_0: {row.part}.{row.tensor} is not {row.required} (p = {row.p_value:.2g})"
                reasons.append(Reason("initialisation", detail))
        if previous is not None:
            magnitude = distances(current.weights, previous[1].weights)["l2"]
            rows.append((previous[0], step, previous[0] // per_epoch, magnitude))
        previous = (step, current)
    return pd.DataFrame(rows, columns=MAGNITUDES), initial, reasons


def test_initialisation(task: Task, first: Checkpoint) -> pd.DataFrame:
    """One row per tensor of W_0: part, tensor, required, p_value, passed.

    Normal and uniform tensors take a Kolmogorov-Smirnov test against their own distribution; constant ones, buffers
    and momentum must hold exactly their initial value (p_value 1 or 0).
    """
    model = build_model(task)
    drawn = weight_distributions(model)
    tested = sum(required.kind != "constant" for required in drawn.values())
    rows = [
        ("weights", name, f"{required.kind} {required.scale:.3g}", _p_value(first.weights[name], required))
        for name, required in drawn.items()
    ]
    constants = [("buffers", name, value) for name, value in initial_buffers(model).items()]
    constants += [("momentum", name, torch.zeros_like(value)) for name, value in first.momentum.items()]
    for part, name, value in constants:
        same = float((first.parts()[part][name] == value).all())
        rows.append((part, name, f"constant {value.flatten()[0]:.0f}", same))
    frame = pd.DataFrame(rows, columns=["part", "tensor", "required", "p_value"])
    # An honest W_0 fails one of its Kolmogorov-Smirnov tests once in a thousand proofs, however many layers it has.
    frame["passed"] = frame["p_value"] > 1e-3 / max(tested, 1)  # NaN does not pass
    return frame


test_initialisation.__test__ = False  # not a test for pytest


def _p_value(value, required: Distribution) -> float:
    from scipy import stats  # here, for a fast start

    if required.kind == "constant":
        return float((value == required.scale).all())
    if not bool(value.isfinite().all()):
        return 0.0
    scale = required.scale
    # Place and scale apart: a distribution that is made of them first writes itself a docstring, for each tensor.
    drawn, where = (stats.norm, (0, scale)) if required.kind == "normal" else (stats.uniform, (-scale, 2 * scale))
    return float(stats.kstest(value.double().flatten().numpy(), drawn.cdf, args=where).pvalue)
