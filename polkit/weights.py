"""f_{W_T} as an adversary or a claimant hands it over: the last checkpoint of a proof, or a file of weights."""

from pathlib import Path

import torch

from polkit.checkpoints import FLOATS, checkpoint_bytes, tensor_shapes
from polkit.proof import open_proof
from polkit.reading import HEADER_BYTES, ProofError, parse_tensors, read_plain
from polkit.task import Task
from polkit.training import Checkpoint


def read_weights(source: str | Path, task: Task) -> Checkpoint:
    """f_{W_T}: from a proof's last checkpoint, or from a safetensors file of a model's state dict or a checkpoint.

    Raises ProofError if it is neither, or not a model of the task.
    """
    source = Path(source)
    if source.is_dir():
        read = open_proof(source).final_weights(task)
    elif not source.exists():
        raise ProofError(f"{source} is neither a proof nor a safetensors file")
    else:
        read = _state_dict(source, task)
    for part, tensors in read.parts().items():
        for name, value in tensors.items():
            if not bool(value.isfinite().all()):
                raise ProofError(f"{source}: {part}.{name} holds NaN or infinity")
    return read


def _state_dict(source: Path, task: Task) -> Checkpoint:
    shapes = {key: shape for key, shape in tensor_shapes(task).items() if not key.startswith("momentum.")}
    raw = read_plain(source.resolve(), source.name, checkpoint_bytes(task))
    whole = f'"{next(iter(shapes))}"'.encode() in raw[:HEADER_BYTES]
    stored = {key if whole else key.partition(".")[2]: (FLOATS, shape) for key, shape in shapes.items()}
    try:
        tensors = parse_tensors(raw, source.name, stored, others=True)
    except ProofError as error:
        raise ProofError(f"{source} does not hold the weights of task {task.name} ({error})") from error
    parts: dict[str, dict[str, torch.Tensor]] = {"weights": {}, "buffers": {}}
    for key, value in zip(shapes, tensors.values(), strict=True):
        part, _, name = key.partition(".")
        parts[part][name] = value
    return Checkpoint(**parts, momentum={})
