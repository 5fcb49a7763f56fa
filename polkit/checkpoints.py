"""The files of a proof, one by one: checkpoints and tensors as safetensors, read only if they are what they must be."""

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from polkit.models import build_model
from polkit.task import Task
from polkit.training import Checkpoint

HEADER_BYTES = 2**20  # of a checkpoint's safetensors header; ResNet-50's takes 42 kB
DTYPES = {"F32": torch.float32, "F64": torch.float64, "U8": torch.uint8, "I32": torch.int32,
          "I64": torch.int64}  # fmt: skip


class ProofError(ValueError):
    """A proof that cannot be used, or a file of it that is not what it must be; the text names the file."""


def checkpoint_steps(steps: int, checkpoint_interval: int) -> list[int]:
    return [*range(0, steps, checkpoint_interval), steps]


def checkpoint_name(step: int) -> str:
    return f"checkpoints/{step:08d}.safetensors"


def label(file: Path) -> str:
    """A file's name inside its proof."""
    return "/".join(file.parts[-2:]) if file.parent.name == "checkpoints" else file.name


def read_tensors(file: Path, dtypes: dict[str, tuple[torch.dtype, ...]], limit: int) -> dict[str, torch.Tensor]:
    """The named tensors of a safetensors file of at most `limit` bytes; ProofError if it holds anything else."""
    name = label(file)
    if file.stat().st_size > limit:
        raise ProofError(f"{name} has {file.stat().st_size} bytes, its tensors take at most {limit}")
    try:
        with safe_open(file, framework="pt") as opened:
            found = set(opened.keys())
            if found != set(dtypes):
                raise ProofError(f"{name} lacks or adds the tensor {min(found ^ set(dtypes))!r}")
            for key, allowed in dtypes.items():
                stored = opened.get_slice(key).get_dtype()
                if DTYPES.get(stored) not in allowed:
                    wanted = " or ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
                    raise ProofError(f"{name}: {key} is of type {stored}, it must be {wanted}")
            return {key: opened.get_tensor(key) for key in dtypes}
    except (SafetensorError, OSError) as error:
        raise ProofError(f"{name} is not a safetensors file ({error})") from error


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


def read_checkpoint(file: Path, task: Task) -> Checkpoint:
    """A checkpoint of the task's model. Raises ProofError unless names, shapes and types are exactly its own."""
    shapes = tensor_shapes(task)
    elements = sum(shape.numel() for shape in shapes.values())
    allowed = (torch.float32, torch.float64)
    tensors = read_tensors(file, dict.fromkeys(shapes, allowed), limit=8 * elements + HEADER_BYTES)
    for key, shape in shapes.items():
        if tensors[key].shape != shape:
            raise ProofError(f"{label(file)}: {key} has shape {tuple(tensors[key].shape)}, not {tuple(shape)}")
    parts = {"weights": {}, "buffers": {}, "momentum": {}}
    for key, value in tensors.items():
        part, _, name = key.partition(".")
        parts[part][name] = value
    return Checkpoint(**parts)


def write_checkpoint(folder: Path, step: int, checkpoint: Checkpoint) -> None:
    """Written under another name and moved into place: a checkpoint that exists is whole."""
    file = folder / checkpoint_name(step)
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"{part}.{name}": value for part, named in checkpoint.parts().items() for name, value in named.items()}
    unfinished = file.with_name(file.name + ".unfinished")
    save_file(tensors, unfinished)
    os.replace(unfinished, file)


def write_text_whole(file: Path, text: str) -> None:
    """Replaces a file at once: a reader sees the old text or the new, never a part."""
    unfinished = file.with_name(file.name + ".unfinished")
    unfinished.write_text(text)
    os.replace(unfinished, file)
