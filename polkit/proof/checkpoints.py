"""The files of a proof, one by one: checkpoints and tensors as safetensors, read only if they are what they must be."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from safetensors.numpy import save

from polkit.proof.storage import write_whole
from polkit.proof.untrusted import HEADER_BYTES, ProofError, bytes_digest, parse_tensors, read_plain
from polkit.training import Checkpoint, Task, build_model

FLOATS = (torch.float32, torch.float64)


def checkpoint_steps(steps: int, checkpoint_interval: int) -> list[int]:
    return [*range(0, steps, checkpoint_interval), steps]


def checkpoint_name(step: int) -> str:
    return f"checkpoints/{step:08d}.safetensors"


def label(file: Path) -> str:
    """A file's name inside its proof."""
    return "/".join(file.parts[-2:]) if file.parent.name == "checkpoints" else file.name


@lru_cache(maxsize=8)  # building the model of `digits` takes 3 ms, reading its checkpoint 1.5 ms
def tensor_shapes(task: Task) -> Mapping[str, torch.Size]:
    """Name in a checkpoint file -> shape, for every tensor that a checkpoint of the task's model has.

    Raises ProofError if no such model can be built: a task may come from a manifest that somebody else wrote.
    """
    try:
        with torch.device("meta"):
            model = build_model(task)
    except (ValueError, RuntimeError, TypeError, OverflowError) as error:
        first_line = str(error).partition("\n")[0]
        raise ProofError(f"the model of task {task.name} cannot be built ({first_line})") from error
    shapes = {f"weights.{name}": value.shape for name, value in model.named_parameters()}
    shapes |= {key.replace("weights.", "momentum.", 1): shape for key, shape in shapes.items()}
    shapes |= {f"buffers.{name}": value.shape for name, value in model.named_buffers()}
    return MappingProxyType(shapes)


def checkpoint_bytes(task: Task) -> int:
    """The most that a checkpoint of the task's model may have on disk: all its tensors in float64, and a header."""
    return 8 * sum(shape.numel() for shape in tensor_shapes(task).values()) + HEADER_BYTES


def read_checkpoint(file: Path, task: Task) -> Checkpoint:
    """A checkpoint of the task's model, from the file of a proof that is being made."""
    return parse_checkpoint(read_plain(file, label(file), checkpoint_bytes(task)), label(file), task)


def parse_checkpoint(raw: bytes, name: str, task: Task) -> Checkpoint:
    """A checkpoint of the task's model. Raises ProofError unless names, shapes and types are exactly its own."""
    tensors = parse_tensors(raw, name, {key: (FLOATS, shape) for key, shape in tensor_shapes(task).items()})
    parts = {"weights": {}, "buffers": {}, "momentum": {}}
    for key, value in tensors.items():
        part, _, inner = key.partition(".")
        parts[part][inner] = value
    return Checkpoint(**parts)


def write_checkpoint(folder: Path, step: int, checkpoint: Checkpoint) -> dict:
    """A checkpoint that exists is whole, but on the disk only when its proof is sealed. Returns its `bytes_digest`.

    Not by safetensors' own writer: since 0.8 it leaves a `.tmp…` among the checkpoints when it is killed, and on a
    full disk it raises no OSError.
    """
    file = folder / checkpoint_name(step)
    file.parent.mkdir(parents=True, exist_ok=True)
    raw = checkpoint_file(checkpoint)
    write_whole(file, raw, durable=False)
    return bytes_digest(raw)


def checkpoint_file(checkpoint: Checkpoint) -> bytes:
    """The bytes that safetensors would give, which the training waits for: 0.06 ms of `digits` in place of 0.23.

    All checkpoints of a training begin alike, so that safetensors is asked once.
    """
    arrays = {
        f"{part}.{name}": value.contiguous().numpy()
        for part, named in checkpoint.parts().items()
        for name, value in named.items()
    }
    head, order = _layout(tuple((name, array.dtype, array.shape) for name, array in arrays.items()))
    return b"".join([head, *(arrays[name].data for name in order)])


@lru_cache(maxsize=8)
def _layout(tensors: tuple[tuple[str, np.dtype, tuple[int, ...]], ...]) -> tuple[bytes, tuple[str, ...]]:
    """How a safetensors file of these (name, type, shape) begins, and in which order their bytes follow."""
    raw = save({name: np.zeros(shape, dtype) for name, dtype, shape in tensors})
    head = raw[: 8 + int.from_bytes(raw[:8], "little")]
    places = json.loads(head[8:])
    return head, tuple(sorted(places, key=lambda name: places[name]["data_offsets"]))
