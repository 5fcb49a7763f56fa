"""A proof 𝒫 = (𝕎, 𝕀, ℍ, 𝔸) as a folder (Definition 1): its only reader and writer. Nothing in it is trusted."""

import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save

from polkit.proof.checkpoints import checkpoint_bytes, checkpoint_name, checkpoint_steps, parse_checkpoint, parse_model
from polkit.proof.storage import FORMAT_VERSION, beside, sync, versions, write_whole
from polkit.proof.untrusted import (
    ARRAY_HEADER_BYTES,
    HEADER_BYTES,
    ProofError,
    bytes_digest,
    parse_array,
    parse_facts,
    parse_tensors,
    read_plain,
)
from polkit.training import NAMED_TASKS, Checkpoint, Conditions, Cost, Points, Task, signatures_of, training_points
from polkit.training.task import is_debris, whole

FORMAT = "polkit-proof"
MANIFEST_BYTES = 16 * 2**20  # 780 checkpoints take 0.1 MB
RECORD_BYTES = 256 * 2**20
ROUNDING_LOG = "rounding.safetensors"  # how doubtful roundings went, see polkit.defences.exact
MOST_LOGGED = 2.0**-5  # of a step's values may stand in it; by chance 2^-8 do
OPTIONAL_FILES = frozenset({"points.safetensors", "augmentation.npy", ROUNDING_LOG})
MANIFEST_FIELDS = dict.fromkeys(("format", "seed_commitment"), str)
MANIFEST_FIELDS |= dict.fromkeys(("format_version", "steps", "checkpoint_interval"), int)
MANIFEST_FIELDS |= dict.fromkeys(("task", "conditions", "versions", "files"), dict)
FILE_FIELDS = {"bytes": int, "sha256": str}


@dataclass(frozen=True)
class Proof:
    """A folder that claims to be a proof. Reading a file of it checks that file, and raises ProofError."""

    folder: Path
    task: Task
    steps: int  # T, or T' of a spoof
    checkpoint_interval: int  # k
    manifest: dict
    digest: str = ""  # SHA-256 of the manifest, which names that of every other file, and so identifies the proof
    bound: bool = False  # whether every file is refused that has another digest than the manifest names

    @property
    def checkpoint_steps(self) -> list[int]:
        return checkpoint_steps(self.steps, self.checkpoint_interval)

    def checkpoint(self, step: int, task: Task | None = None) -> Checkpoint:
        """W_t; its tensors must be those of the model of `task` (default: of the claimed task)."""
        name, task = checkpoint_name(step), task or self.task
        return parse_checkpoint(self._read(name, task), name, task)

    def final_weights(self, task: Task | None = None) -> Checkpoint:
        """What an adversary knows: the weights and buffers of f_{W_T}, without the optimiser's state."""
        last = self.checkpoint(self.steps, task)
        return Checkpoint(last.weights, last.buffers, {})

    def batches(self) -> np.ndarray:
        """𝕀: int32 (T, B), indices into the points."""
        return self._array("batches.npy", np.int32, (self.steps, self.task.batch_size))

    def signatures(self) -> np.ndarray:
        """ℍ: uint8 (T, 32), the SHA-256 of each batch."""
        return self._array("signatures.npy", np.uint8, (self.steps, 32))

    def augmentation_seeds(self) -> np.ndarray | None:
        """int64 (T,), the seed of each step's augmentation, or None if they were not recorded."""
        name = "augmentation.npy"
        return self._array(name, np.int64, (self.steps,)) if self._has(name) else None

    def points(self) -> Points | None:
        """The data points that travel with the proof, or None: then they are the named data set's own."""
        name = "points.safetensors"
        if not self._has(name):
            return None
        tensors = self.tensors(name, {"images": torch.uint8, "labels": torch.int64})
        images, labels = tensors["images"], tensors["labels"]
        if labels.dim() != 1 or images.shape != (len(labels), *self.task.image_shape):
            shapes = f"labels of shape {tuple(labels.shape)} and images of shape {tuple(images.shape)}"
            raise ProofError(f"{name}: {shapes} are not points of {self.task.image_shape}")
        if not 0 <= int(labels.min()) <= int(labels.max()) < self.task.classes:
            raise ProofError(f"{name}: a label lies outside 0 to {self.task.classes - 1}")
        return Points(images, labels)

    def _has(self, name: str) -> bool:
        """Once digests were checked, by the manifest: a file that is removed later is missing, not optional."""
        return name in self.manifest["files"] if self.bound else os.path.lexists(self.folder / name)

    def tensors(self, name: str, dtypes: Mapping[str, torch.dtype]) -> dict[str, torch.Tensor]:
        """The tensors of a file of the proof, which must be these and of these types; of any shape."""
        wanted = {key: ((dtype,), None) for key, dtype in dtypes.items()}
        return parse_tensors(self._read(name, self.task), name, wanted)

    def cost(self) -> Cost:
        """What its maker noted beside the folder about its own expense; the verifier never looks there."""
        return self._noted(lambda note: Cost(**note["cost"]))

    def trace(self) -> pd.DataFrame:
        """What an adversary noted there: one row per batch that was treated (empty for a prover)."""
        return self._noted(lambda note: pd.DataFrame(note["trace"]))

    def counts(self) -> dict[str, int]:
        """How often its maker did each kind of computation."""
        return self._noted(lambda note: {str(kind): int(times) for kind, times in note["counts"].items()})

    def missed(self) -> str:
        """By how much an adversary's optimisation missed its aim, in a sentence; empty if it did not."""
        return self._noted(lambda note: str(note.get("missed", "")))

    def size_limit(self, name: str, task: Task) -> int:
        """The most bytes that a file may have in a proof of these steps for a task, whatever it declares."""
        if name.endswith(".npy"):
            return self.steps * max(4 * task.batch_size, 32) + ARRAY_HEADER_BYTES
        if name == ROUNDING_LOG:
            return self.steps * (8 + 4 * most_logged(task)) + HEADER_BYTES
        if name == "points.safetensors":
            return most_points(task) * (math.prod(task.image_shape) + 8) + HEADER_BYTES
        return checkpoint_bytes(task)

    def _noted(self, read: Callable[[dict], Any]) -> Any:
        file = record_path(self.folder)
        raw = read_plain(file, file.name, RECORD_BYTES)
        try:
            return read(json.loads(raw))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ProofError(f"{file.name} is not the note that a maker leaves ({error})") from error

    def _read(self, name: str, task: Task) -> bytes:
        inner, limit = (self.folder / name).parent, self.size_limit(name, task)
        if inner != self.folder and inner.is_symlink():
            raise ProofError(f"{inner.name} is a link, not a folder")
        noted = self.manifest["files"].get(name, {"bytes": 0}) if self.bound else None
        raw = read_plain(self.folder / name, name, min(limit, noted["bytes"]) if noted else limit)
        if noted and noted != bytes_digest(raw):
            raise ProofError(f"{name} changed after its digest had been checked")
        return raw

    def _array(self, name: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        return parse_array(self._read(name, self.task), name, dtype, shape)


def most_points(task: Task) -> int:
    """How many points may travel with a proof: an honest one has under two for each place, Attack I adds its own."""
    return 3 * task.steps * task.batch_size


def most_logged(task: Task) -> int:
    """How many values of one step a log of roundings may name."""
    return 64 + int(MOST_LOGGED * (checkpoint_bytes(task) - HEADER_BYTES) / 8)


def record_path(folder: Path) -> Path:
    """The maker's own note beside a proof (cost, trace): no part of the proof."""
    return beside(folder, ".record.json")


def open_proof(folder: str | Path) -> Proof:
    """A proof, with only its manifest read. Raises ProofError if there is no manifest that can be used."""
    folder = Path(folder)
    if not os.path.lexists(folder / "manifest.json"):
        raise ProofError(f"{folder} is not a proof: it has no manifest.json")
    raw = read_plain(folder / "manifest.json", "manifest.json", MANIFEST_BYTES)
    manifest = parse_facts(raw, "manifest.json", MANIFEST_FIELDS, FORMAT, FORMAT_VERSION)
    try:
        task = Task.from_json(manifest["task"])
    except ValueError as error:
        raise ProofError(f"manifest.json: {error}") from error
    steps, interval = manifest["steps"], manifest["checkpoint_interval"]
    if not 1 <= interval <= steps <= 10**8:
        raise ProofError(f"manifest.json: {steps} steps in intervals of {interval} are not 1 <= k <= T <= 10^8")
    for name, noted in manifest["files"].items():
        if not (isinstance(noted, dict) and {key: type(value) for key, value in noted.items()} == FILE_FIELDS):
            raise ProofError(f"manifest.json: of {name!r} it must name the bytes and the sha256, and nothing else")
    return Proof(folder, task, steps, interval, manifest, bytes_digest(raw)["sha256"])


def file_digest(file: Path) -> dict:
    return bytes_digest(file.read_bytes())


def seal(
    partial: Path,
    task: Task,
    points: Points,
    batches: np.ndarray,
    augmentation_seeds: np.ndarray,
    *,
    seed: int,
    conditions: Conditions,
    altered: bool = False,
) -> None:
    """Completes a folder of checkpoints into a proof; the manifest is written last, when all else is on the disk.

    altered: whether the points are not those of the task's data set, and so must travel with the proof
    """
    arrays = {"batches": batches.astype(np.int32), "signatures": signatures_of(points, batches)}
    for name, values in (arrays | {"augmentation": augmentation_seeds.astype(np.int64)}).items():
        stored = io.BytesIO()  # numpy's own error on a full disk names neither file nor cause
        np.save(stored, values)
        write_whole(partial / f"{name}.npy", stored.getbuffer(), durable=False)
    if altered or needs_points(task):
        stored_points = save({"images": points.images, "labels": points.labels})
        write_whole(partial / "points.safetensors", stored_points, durable=False)
    for path in [*partial.rglob("*"), partial]:
        sync(path)
    facts = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "task": task.without_place().to_json(),  # its points travel along: their place tells on its maker
        "steps": len(batches),
        "checkpoint_interval": task.checkpoint_interval,
        "seed_commitment": seed_commitment(seed),
        "conditions": conditions.to_json(),
        "versions": versions(),
    }
    write_manifest(partial, facts)


def write_manifest(folder: Path, facts: dict) -> None:
    """manifest.json: the facts, and the size and digest of every other file in the folder."""
    files = {file.relative_to(folder): file for file in sorted(folder.rglob("*")) if file.is_file()}
    named = [inside for inside in files if inside.name != "manifest.json" and not is_debris(inside)]
    digests = {inside.as_posix(): file_digest(files[inside]) for inside in named}
    write_whole(folder / "manifest.json", json.dumps(facts | {"files": digests}, indent=1))


def publish(
    partial: Path, folder: Path, cost: Cost, counts: dict[str, int], trace: list[dict], missed: str = ""
) -> Proof:
    """Moves a sealed proof into place, after its maker's own note of the expense: with the proof there is its note."""
    stored = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
    note = {"cost": asdict(cost + Cost(stored_bytes=stored)), "counts": counts, "trace": trace, "missed": missed}
    write_whole(record_path(folder), json.dumps(note))
    os.replace(partial, folder)
    sync(folder.parent)
    return open_proof(folder)


def seed_commitment(seed: int) -> str:
    """Binds the prover to a seed that it may reveal in a dispute."""
    return hashlib.sha256(f"polkit seed {whole('a seed', seed)}".encode()).hexdigest()


def needs_points(task: Task) -> bool:
    """Whether the data points must travel with a proof, because no verifier can look them up by name."""
    return task.data not in NAMED_TASKS


def proof_points(proof: Proof) -> Points:
    """The data points a proof's indices point into: its own, or those of the named data set it claims.

    Raises ProofError if there are neither, FileNotFoundError if the named data set is not on this machine.
    """
    if (points := proof.points()) is not None:
        return points
    if needs_points(proof.task):
        raise ProofError(f"points.safetensors is missing, and {proof.task.data!r} is not a named data set")
    try:
        return training_points(proof.task)
    except ValueError as error:
        raise ProofError(f"manifest.json: {error}") from error


def read_weights(source: str | Path, task: Task) -> Checkpoint:
    """f_{W_T}: from a proof, or a safetensors file of a state dict or checkpoint. Raises ProofError on any other."""
    source = Path(source)
    if not source.exists():
        raise ProofError(f"{source} is neither a proof nor a safetensors file")
    if source.is_dir():
        read = open_proof(source).final_weights(task)
    else:
        raw = read_plain(source.resolve(), source.name, checkpoint_bytes(task))
        try:
            read = parse_model(raw, source.name, task)
        except ProofError as error:
            raise ProofError(f"{source} does not hold the weights of task {task.name} ({error})") from error
    for part, tensors in read.parts().items():
        if odd := [name for name, value in tensors.items() if not value.isfinite().all()]:
            raise ProofError(f"{source}: {part}.{odd[0]} holds NaN or infinity")
    return read
