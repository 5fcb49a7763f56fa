"""A proof 𝒫 = (𝕎, 𝕀, ℍ, 𝔸) as a folder (Definition 1): its only reader and writer. Nothing in it is trusted."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from polkit.checkpoints import (
    ProofError,
    checkpoint_name,
    checkpoint_steps,
    read_checkpoint,
    read_tensors,
    tensor_shapes,
    write_text_whole,
)  # fmt: skip
from polkit.cost import Cost
from polkit.data import Points, polkit_home
from polkit.task import NAMED_TASKS, Task
from polkit.training import Checkpoint, Conditions

FORMAT, FORMAT_VERSION = "polkit-proof", 1
ROUNDING_LOG = "rounding.safetensors"  # how doubtful roundings went, see polkit.rounding
MANIFEST_BYTES = 64 * 2**20  # 780 checkpoints take 0.1 MB
MANIFEST_FIELDS = {"format": str, "format_version": int, "task": dict, "steps": int, "checkpoint_interval": int,
                   "seed_commitment": str, "conditions": dict, "versions": dict, "files": dict}  # fmt: skip


@dataclass(frozen=True)
class Proof:
    """A folder that claims to be a proof. Reading a file of it checks that file, and raises ProofError.

    steps: T (T' of a spoof) · checkpoint_interval: k.
    """

    folder: Path
    task: Task
    steps: int
    checkpoint_interval: int
    manifest: dict

    @property
    def checkpoint_steps(self) -> list[int]:
        """0, k, 2k, …, T."""
        return checkpoint_steps(self.steps, self.checkpoint_interval)

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, which names the digest of every other file: it identifies the proof."""
        return hashlib.sha256((self.folder / "manifest.json").read_bytes()).hexdigest()

    def checkpoint(self, step: int, task: Task | None = None) -> Checkpoint:
        """W_t; its tensors must be those of the model of `task` (default: of the claimed task)."""
        name = checkpoint_name(step)
        return read_checkpoint(self.file(name), task or self.task)

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
        if not os.path.lexists(self.folder / "augmentation.npy"):
            return None
        return self._array("augmentation.npy", np.int64, (self.steps,))

    def points(self) -> Points | None:
        """The data points that travel with the proof, or None: then they are the named data set's own."""
        if not os.path.lexists(self.folder / "points.safetensors"):
            return None
        file = self.file("points.safetensors")
        tensors = read_tensors(file, {"images": (torch.uint8,), "labels": (torch.int64,)}, limit=file.stat().st_size)
        images, labels = tensors["images"], tensors["labels"]
        if images.shape != (len(labels), *self.task.image_shape) or labels.dim() != 1:
            raise ProofError(f"points.safetensors: {len(labels)} labels and images of shape {tuple(images.shape)}")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.task.classes:
            raise ProofError(f"points.safetensors: a label lies outside 0 to {self.task.classes - 1}")
        return Points(images, labels)

    def cost(self) -> Cost:
        """What its maker noted beside the folder about its own expense; the verifier never looks there."""
        return Cost(**self._record()["cost"])

    def trace(self) -> pd.DataFrame:
        """What an adversary noted beside the folder: one row per batch it treated (empty for a prover)."""
        return pd.DataFrame(self._record()["trace"])

    def counts(self) -> dict[str, int]:
        """How often its maker did each kind of computation, from the same note."""
        return self._record()["counts"]

    def _record(self) -> dict:
        return json.loads(record_path(self.folder).read_text())

    def file(self, name: str) -> Path:
        """Where a file of this name lies. Raises ProofError unless it is a plain file."""
        file = self.folder / name
        if file.is_symlink() or not file.is_file():
            raise ProofError(f"{name} is missing, or not a file")
        return file

    def _array(self, name: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        file = self.file(name)
        try:
            values = np.load(file, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise ProofError(f"{name} is not a NumPy array file ({error})") from error
        if not isinstance(values, np.ndarray) or values.dtype != dtype or values.shape != shape:
            found = f"{getattr(values, 'dtype', type(values).__name__)} {getattr(values, 'shape', '')}"
            raise ProofError(f"{name} holds {found}, it must hold {np.dtype(dtype)} {shape}")
        return np.array(values)


def record_path(folder: Path) -> Path:
    """The maker's own note beside a proof (cost, trace): no part of the proof."""
    return folder.with_name(folder.name + ".record.json")


def read_weights(source: str | Path, task: Task) -> Checkpoint:
    """f_{W_T}: from a proof's last checkpoint, or from a safetensors file of a model's state dict or a checkpoint.

    Raises ProofError if it is neither, or not a model of the task.
    """
    source = Path(source)
    if source.is_dir():
        return open_proof(source).final_weights(task)
    if not source.is_file():
        raise ProofError(f"{source} is neither a proof nor a safetensors file")
    shapes = {key: shape for key, shape in tensor_shapes(task).items() if not key.startswith("momentum.")}
    parts: dict[str, dict[str, torch.Tensor]] = {"weights": {}, "buffers": {}}
    try:
        with safe_open(source, framework="pt") as opened:
            whole = next(iter(shapes)) in opened.keys()  # noqa: SIM118 (a safetensors file is no dict)
            for key, shape in shapes.items():
                part, _, name = key.partition(".")
                stored = key if whole else name
                if opened.get_slice(stored).get_dtype() not in ("F32", "F64"):
                    raise ProofError(f"{source}: {stored} is neither float32 nor float64")
                found = tuple(opened.get_slice(stored).get_shape())
                if found != tuple(shape):
                    raise ProofError(f"{source}: {stored} has shape {found}, task {task.name} needs {tuple(shape)}")
                parts[part][name] = opened.get_tensor(stored)
    except (SafetensorError, OSError) as error:
        raise ProofError(f"{source} does not hold the weights of task {task.name} ({error})") from error
    return Checkpoint(**parts, momentum={})


def open_proof(folder: str | Path) -> Proof:
    """A proof, with only its manifest read. Raises ProofError if there is no manifest that can be used."""
    folder = Path(folder)
    file = folder / "manifest.json"
    if file.is_symlink() or not file.is_file():
        raise ProofError(f"{folder} is not a proof: it has no manifest.json")
    if file.stat().st_size > MANIFEST_BYTES:
        raise ProofError(f"manifest.json has {file.stat().st_size} bytes, more than {MANIFEST_BYTES}")
    try:
        manifest = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ProofError(f"manifest.json is not JSON ({error})") from error
    if not isinstance(manifest, dict) or set(manifest) != set(MANIFEST_FIELDS):
        raise ProofError(f"manifest.json must have the fields {', '.join(MANIFEST_FIELDS)} and no others")
    for name, kind in MANIFEST_FIELDS.items():
        if type(manifest[name]) is not kind:
            raise ProofError(f"manifest.json: {name} must be of type {kind.__name__}")
    if (manifest["format"], manifest["format_version"]) != (FORMAT, FORMAT_VERSION):
        raise ProofError(f"manifest.json: this is not {FORMAT} version {FORMAT_VERSION}")
    try:
        task = Task.from_json(manifest["task"])
    except ValueError as error:
        raise ProofError(f"manifest.json: {error}") from error
    steps, interval = manifest["steps"], manifest["checkpoint_interval"]
    if not 1 <= interval <= steps <= 10**8:
        raise ProofError(f"manifest.json: {steps} steps in intervals of {interval} are not 1 <= k <= T <= 10^8")
    return Proof(folder, task, steps, interval, manifest)


def file_digest(file: Path) -> dict:
    with file.open("rb") as opened:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(opened, "sha256").hexdigest()}


def expected_files(proof: Proof) -> set[str]:
    """Every file that a proof of these many steps must have, beside its manifest and the optional ones."""
    return {checkpoint_name(step) for step in proof.checkpoint_steps} | {"batches.npy", "signatures.npy"}


OPTIONAL_FILES = frozenset({"points.safetensors", "augmentation.npy", ROUNDING_LOG})


def seal(partial: Path, *, task: Task, checkpoint_interval: int, seed: int, conditions: Conditions,
         batches: np.ndarray, signatures: np.ndarray, augmentation_seeds: np.ndarray | None,
         points: Points | None) -> None:  # fmt: skip
    """Completes a folder of checkpoints into a proof; the manifest is written last."""
    np.save(partial / "batches.npy", batches.astype(np.int32))
    np.save(partial / "signatures.npy", signatures.astype(np.uint8))
    if augmentation_seeds is not None:
        np.save(partial / "augmentation.npy", augmentation_seeds.astype(np.int64))
    if points is not None:
        save_file({"images": points.images, "labels": points.labels}, partial / "points.safetensors")
    write_manifest(partial, {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "task": task.to_json(),
        "steps": len(batches),
        "checkpoint_interval": checkpoint_interval,
        "seed_commitment": seed_commitment(seed),
        "conditions": conditions.to_json(),
        "versions": versions(),
    })  # fmt: skip


def write_manifest(folder: Path, facts: dict) -> None:
    """manifest.json: the facts, and the size and digest of every other file in the folder."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != "manifest.json")
    digests = {file.relative_to(folder).as_posix(): file_digest(file) for file in files}
    write_text_whole(folder / "manifest.json", json.dumps(facts | {"files": digests}, indent=1))


def publish(partial: Path, folder: Path, cost: Cost, counts: dict[str, int], trace: list[dict]) -> Proof:
    """Moves a sealed proof into place, with its maker's own note of the expense beside it."""
    spent = cost + Cost(stored_bytes=folder_bytes(partial))
    write_text_whole(record_path(folder), json.dumps({"cost": asdict(spent), "counts": counts, "trace": trace}))
    os.replace(partial, folder)
    return open_proof(folder)


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def seed_commitment(seed: int) -> str:
    """Binds the prover to a seed that it may reveal in a dispute."""
    return hashlib.sha256(f"polkit seed {seed}".encode()).hexdigest()


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("polkit", "torch", "numpy")}


def cache_folder(kind: str, **facts) -> Path:
    """Where the result of these facts is kept; other facts, or another torch, give another place."""
    text = json.dumps({"format": FORMAT_VERSION, "versions": versions(), **facts}, sort_keys=True)
    return polkit_home() / kind / hashlib.sha256(text.encode()).hexdigest()[:24]


def partial_path(folder: Path) -> Path:
    """Where a proof is put together, beside the place where it will stand."""
    return folder.with_name(folder.name + ".partial")


@contextmanager
def made_alone(folder: Path) -> Iterator[None]:
    """Holds the place of something in the cache, so that two processes do not make it there at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        yield


def fresh_folder(folder: Path) -> Path:
    partial = partial_path(folder)
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    return partial


def needs_points(task: Task) -> bool:
    """Whether the data points must travel with a proof, because no verifier can look them up by name."""
    return task.data not in NAMED_TASKS
