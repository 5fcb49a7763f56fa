"""The checkpoints of a proof: safetensors files, read only if they are what they must be."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors.numpy import save

from polkit.proof.storage import write_whole
from polkit.proof.untrusted import HEADER_BYTES, ProofError, bytes_digest, parse_tensors, read_plain
from polkit.training import Checkpoint, Task, build_model

FLOATS = (torch.float32, torch.float64)


def checkpoint_steps(steps: int, checkpoint_interval: int) -> list[int]:
    """0, k, 2k, …, T."""
    return [*range(0, steps, checkpoint_interval), steps]


def checkpoint_name(step: int) -> str:
    return f"checkpoints/{step:08d}.safetensors"


@lru_cache(maxsize=8)  # asked for at every checkpoint
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
    named, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    parts = {"weights": named, "momentum": named, "buffers": buffers}
    return MappingProxyType({f"{part}.{key}": value.shape for part in parts for key, value in parts[part].items()})


def checkpoint_bytes(task: Task) -> int:
    """The most that a checkpoint of the task's model may have on disk: all its tensors in float64, and a header."""
    return 8 * sum(shape.numel() for shape in tensor_shapes(task).values()) + HEADER_BYTES


def read_checkpoint(file: Path, task: Task) -> Checkpoint:
    """A checkpoint of the task's model, from the file of a proof that is being made."""
    return parse_checkpoint(read_plain(file, file.name, checkpoint_bytes(task)), file.name, task)


def parse_checkpoint(raw: bytes, name: str, task: Task) -> Checkpoint:
    """A checkpoint of the task's model. Raises ProofError unless names, shapes and types are exactly its own."""
    return _in_parts(parse_tensors(raw, name, {key: (FLOATS, shape) for key, shape in tensor_shapes(task).items()}))


def parse_model(raw: bytes, name: str, task: Task) -> Checkpoint:
    """Weights and buffers, of a checkpoint or of a model's state dict, whose names do not begin with their part."""
    shapes = {key: shape for key, shape in tensor_shapes(task).items() if not key.startswith("momentum.")}
    whole = f'"{next(iter(shapes))}"'.encode() in raw[:HEADER_BYTES]
    stored = {key: key if whole else key.partition(".")[2] for key in shapes}
    found = parse_tensors(raw, name, {stored[key]: (FLOATS, shape) for key, shape in shapes.items()}, others=True)
    return _in_parts({key: found[stored[key]] for key in shapes})


def _in_parts(tensors: Mapping[str, torch.Tensor]) -> Checkpoint:
    parts = {"weights": {}, "buffers": {}, "momentum": {}}
    for key, value in tensors.items():
        part, _, name = key.partition(".")
        parts[part][name] = value
    return Checkpoint(**parts)


def write_checkpoint(folder: Path, step: int, checkpoint: Checkpoint) -> dict:
    """A checkpoint that exists is whole, but on the disk only when its proof is sealed. Returns its `bytes_digest`."""
    file = folder / checkpoint_name(step)
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        f"{part}.{name}": value.contiguous().numpy()
        for part, named in checkpoint.parts().items()
        for name, value in named.items()
    }
    raw = save(arrays)  # not `save_file`, which leaves a stray file when it is killed, and no OSError on a full disk
    write_whole(file, raw, durable=False)
    return bytes_digest(raw)
