"""Rounding so that two machines agree (after Srivastava et al. 2024, arXiv 2403.09603): the grid, and the log.

Two machines that compute a step in float64 agree to about its 16th digit. Rounded to float32 they agree to the last
bit, but for the few values that lie so near to the middle between two float32 neighbours that one rounds up and the
other down. Which way those went is logged, and the verifier rounds them the same way.
"""

import os

import torch
from torch import Tensor

from polkit.proof import ROUNDING_LOG, Proof, most_logged
from polkit.reading import ProofError
from polkit.training import Checkpoint

# How near to a middle a value is logged, in units of the grid. Two machines of ours differ by up to 5e-4 units in one
# step of `digits` (one thread against two), so 2e-3 leaves room for others; 0.4 % of all values are that near.
NEAR = 2.0**-9
# A verifier finds a logged value elsewhere than the prover did, by what two machines differ.
ALLOWED = 2 * NEAR
# The grid is float32's, but nowhere finer than 2^-44: a value near zero is what larger ones have left, and errs as they
# do. Without this, float32's neighbours of a momentum of 1e-10 lie nearer to each other than two machines' values.
FINEST = -44


def flat(state: Checkpoint) -> Tensor:
    """float64 (n,): all weights, buffers and momenta one behind the other."""
    parts = state.parts().values()
    return torch.cat([value.flatten().double() for part in parts for value in part.values()])


def unflat(values: Tensor, like: Checkpoint) -> Checkpoint:
    """The checkpoint whose `flat` these values are, in their dtype."""
    parts, used = [], 0
    for part in like.parts().values():
        named = {}
        for name, value in part.items():
            named[name] = values[used : used + value.numel()].view_as(value)
            used += value.numel()
        parts.append(named)
    return Checkpoint(*parts)


def units(values: Tensor) -> Tensor:
    """float64 (n,): the distance between the two neighbours on the grid that each value lies between."""
    exponents = torch.frexp(values).exponent - 24
    return torch.ldexp(torch.ones_like(values), exponents.clamp(min=FINEST))


def _placed(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The unit of each value, its lower neighbour in units, and how far above that it lies, 0 … 1."""
    unit = units(values)
    scaled = values / unit  # exact: a unit is a power of two
    low = scaled.floor()
    return unit, low, scaled - low


def nearness(values: Tensor) -> Tensor:
    """float64 (n,): how far each value lies from the middle between its two neighbours, in units, 0 to 0.5."""
    return (_placed(values)[2] - 0.5).abs()


def round_and_log(values: Tensor, near: float = NEAR, towards: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The prover's side: float32 (n,) on the grid, and the log int32 (m,) of one step.

    values: float64 (n,) · an entry of the log is twice the position, plus one if that value was rounded up ·
    towards: float64 (n,), an adversary's: to which side values near a middle go in place of the nearer one.
    """
    unit, low, share = _placed(values)
    up, doubtful = share > 0.5, (share - 0.5).abs() <= near
    if towards is not None:
        up = torch.where(doubtful, towards > values, up)
    positions = doubtful.nonzero().flatten()
    return ((low + up) * unit).float(), (2 * positions + up[positions]).int()


def round_by_log(values: Tensor, entries: Tensor) -> tuple[Tensor, int]:
    """The verifier's side: its own values rounded as the log says, and how many would have gone the other way.

    Raises ProofError if the log rounds a value that is not near a middle: it may settle a doubt and nothing else.
    """
    unit, low, share = _placed(values)
    up, positions, logged = share > 0.5, entries.long() >> 1, (entries & 1).bool()
    far = ~((share[positions] - 0.5).abs() <= ALLOWED)  # NaN is far
    if bool(far.any()):
        first = int(positions[far][0])
        raise ProofError(f"{ROUNDING_LOG} rounds value {first}, which lies {share[first] - 0.5:+.3g} units from a "
                         f"middle: at most {ALLOWED:.3g} is open to doubt")  # fmt: skip
    turned = int((up[positions] != logged).sum())
    up[positions] = logged
    return ((low + up) * unit).float(), turned


def read_log(proof: Proof, values: int) -> list[Tensor]:
    """For each step its entries, int32. values: n, in the state of the task's model.

    Raises ProofError if there is no log, or one that is larger than chance could make it, or not what a log must be.
    """
    if not os.path.lexists(proof.folder / ROUNDING_LOG):
        raise ProofError(f"{ROUNDING_LOG} is missing: without it no two machines round alike")
    most = most_logged(proof.task)
    tensors = proof.tensors(ROUNDING_LOG, {"ends": torch.int64, "entries": torch.int32})
    ends, entries = tensors["ends"], tensors["entries"]
    if ends.shape != (proof.steps,) or entries.dim() != 1:
        raise ProofError(f"{ROUNDING_LOG}: ends has shape {tuple(ends.shape)} and entries {tuple(entries.shape)}, "
                         f"they must be ({proof.steps},) and (m,)")  # fmt: skip
    counts = ends.diff(prepend=ends.new_zeros(1))
    if int(ends[-1]) != len(entries) or not 0 <= int(counts.min()) <= int(counts.max()) <= most:
        raise ProofError(f"{ROUNDING_LOG}: ends must rise to {len(entries)} by 0 to {most} a step")
    steps = list(entries.split(counts.tolist()))
    for step, logged in enumerate(steps):
        positions = logged >> 1
        rising = bool((positions.diff() > 0).all())
        if len(logged) and not (rising and int(positions[0]) >= 0 and int(positions[-1]) < values):
            raise ProofError(f"{ROUNDING_LOG}: the positions of step {step} must rise from 0 to below {values}")
    return steps


def log_tensors(entries: list[Tensor]) -> dict[str, Tensor]:
    """The two tensors of the file: where each step's entries end, int64 (T,), and all of them, int32 (m,)."""
    lengths = torch.tensor([len(logged) for logged in entries], dtype=torch.int64)
    return {"ends": lengths.cumsum(0), "entries": torch.cat(entries)}
