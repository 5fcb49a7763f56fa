"""Bytes of a proof: what lossless compression would save, and what rounding would save and cost in ε."""

import lzma
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from polkit.proof.checkpoints import write_checkpoint
from polkit.proof.folder import Proof, open_proof
from polkit.training.conditions import Conditions
from polkit.training.distance import DISTANCES
from polkit.training.step import Checkpoint
from polkit.verifier.calibration import Calibration
from polkit.verifier.replay import interval_errors

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "zlib": lambda raw: zlib.compress(raw, 6),
    "lzma": lambda raw: lzma.compress(raw, preset=1),
}


UNPACKERS = {"zlib": zlib.decompress, "lzma": lzma.decompress}
LAYOUTS = ("plain", "byte planes", "byte planes of the xor with the checkpoint before")


def flat(checkpoint: Checkpoint) -> np.ndarray:
    """All tensors of a checkpoint, one after another: float32 (n,)."""
    parts = (value.flatten() for named in checkpoint.parts().values() for value in named.values())
    return torch.cat(list(parts)).float().numpy()


def laid_out(layout: str, values: np.ndarray, before: np.ndarray) -> bytes:
    """The bits of float32 values, in the order in which they compress best: no bit is lost."""
    bits = values.view(np.uint32)
    if layout == LAYOUTS[2]:
        bits = bits ^ before.view(np.uint32)
    return bits.tobytes() if layout == "plain" else bits.view(np.uint8).reshape(-1, 4).T.tobytes()


def read_back(layout: str, raw: bytes, before: np.ndarray) -> np.ndarray:
    """The values that `laid_out` was given."""
    if layout == "plain":
        return np.frombuffer(raw, np.uint32).view(np.float32)
    bits = np.frombuffer(raw, np.uint8).reshape(4, -1).T.copy().view(np.uint32)[:, 0]
    return (bits ^ before.view(np.uint32) if layout == LAYOUTS[2] else bits).view(np.float32)


def lossless_table(proof: Proof, steps: Sequence[int]) -> pd.DataFrame:
    """Of the checkpoints of these steps: the share of their bytes that is left, and the seconds of packing and
    unpacking as shares of those that the interval before them took its prover.

    Columns encoding, share_of_bytes, packing_share, unpacking_share. Raises ValueError if any bit is lost.
    """
    interval_seconds = proof.cost().wall_seconds / proof.steps * proof.checkpoint_interval
    pairs = [tuple(flat(proof.checkpoint(at)) for at in (step, step - proof.checkpoint_interval)) for step in steps]
    rows = []
    for name, pack in PACKERS.items():
        for layout in LAYOUTS:
            begun = time.perf_counter()
            packed = [pack(laid_out(layout, *pair)) for pair in pairs]
            between = time.perf_counter()
            again = [
                read_back(layout, UNPACKERS[name](raw), before) for raw, (_, before) in zip(packed, pairs, strict=True)
            ]
            ended = time.perf_counter()
            if any((a.view(np.uint32) != b.view(np.uint32)).any() for a, (b, _) in zip(again, pairs, strict=True)):
                raise ValueError(f"{name} of {layout} does not give back what it was given")
            whole = len(pairs) * interval_seconds
            rows.append(
                {
                    "encoding": f"{name}, {layout}",
                    "share_of_bytes": sum(map(len, packed)) / sum(values.nbytes for values, _ in pairs),
                    "packing_share": (between - begun) / whole,
                    "unpacking_share": (ended - between) / whole,
                }
            )
    return pd.DataFrame(rows)


def as_type(dtype: torch.dtype) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    return lambda value, before: value.to(dtype).to(value.dtype)


def as_levels(bits: int) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The difference to the checkpoint before in whole multiples of its largest element / (2^(bits-1) - 1)."""

    def rounded(value: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        moved = value - before
        unit = moved.abs().max() / (2 ** (bits - 1) - 1)
        return before + (moved / unit).round() * unit if unit > 0 else value

    return rounded


# name -> (bits of an element, how it is rounded, given the checkpoint before).
ROUNDINGS = {
    "float16": (16, as_type(torch.float16)),
    "bfloat16": (16, as_type(torch.bfloat16)),
    "difference in 8 bits": (8, as_levels(8)),
    "difference in 4 bits": (4, as_levels(4)),
}


def rounded_checkpoint(name: str, checkpoint: Checkpoint, before: Checkpoint) -> Checkpoint:
    _, rounding = ROUNDINGS[name]
    return Checkpoint(
        **{
            part: {key: rounding(value, before.parts()[part][key]) for key, value in named.items()}
            for part, named in checkpoint.parts().items()
        }
    )


def rounding_table(proof: Proof, calibration: Calibration, starts: Sequence[int]) -> pd.DataFrame:
    """What an honest prover's ε becomes if both ends of an interval are stored rounded, augmentation replayed as
    recorded (so that nothing else errs), as shares of d_ref and of δ: the largest over the intervals.

    Columns encoding, share_of_bytes, a column for each distance of the weights, and `share_of_threshold`, the largest
    over distances. Each difference is taken to the exact checkpoint before.
    """
    rows = []
    replayed = Conditions(**{**proof.manifest["conditions"], "augmentation": "replay"})
    for name, (bits, _) in ROUNDINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder)
            for file in ("manifest.json", "batches.npy", "signatures.npy", "augmentation.npy"):
                shutil.copy(proof.folder / file, copy)
            for step in sorted({at for start in starts for at in (start, start + proof.checkpoint_interval)}):
                before = proof.checkpoint(max(0, step - proof.checkpoint_interval))
                write_checkpoint(copy, step, rounded_checkpoint(name, proof.checkpoint(step), before))
            found = pd.DataFrame(interval_errors(open_proof(copy), proof.task, replayed, starts, 0))
        largest = found[found["part"] == "weights"].groupby("distance")["error"].max()
        normalised = calibration.normalised({distance: float(largest[distance]) for distance in DISTANCES})
        allowed = calibration.normalised(calibration.thresholds["weights"])
        rows.append(
            {
                "encoding": name,
                "share_of_bytes": bits / 32,
                **normalised,
                "share_of_threshold": max(normalised[each] / allowed[each] for each in DISTANCES),
            }
        )
    return pd.DataFrame(rows)


def storage_table(proof: Proof, calibration: Calibration, count: int = 4) -> pd.DataFrame:
    """Both tables, over `count` checkpoints early in the training and as many late: what, when, encoding, ….

    A figure that does not apply to a row is empty.
    """
    steps = proof.checkpoint_steps[1:-1]
    tables = []
    for when, chosen in (("early", steps[:count]), ("late", steps[-count:])):
        tables.append(lossless_table(proof, chosen).assign(kind="lossless", when=when))
        tables.append(rounding_table(proof, calibration, chosen).assign(kind="rounded", when=when))
    table = pd.concat(tables, ignore_index=True)
    first = ["kind", "when", "encoding"]
    return table[first + [name for name in table if name not in first]]
