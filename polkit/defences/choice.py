"""Which intervals to look at: by lot instead of by size, and how likely a made-up one is then seen."""

import math

import numpy as np

from polkit.data import derive_seed
from polkit.proof import Proof


def random_starts(proof: Proof, count: int, seed: int) -> list[int]:
    """The first steps of `count` different intervals, each choice as likely as any other.

    seed: the verifier's own, drawn after the proof was handed in. Raises ValueError if there are fewer intervals.
    """
    starts = proof.checkpoint_steps[:-1]
    if not 1 <= count <= len(starts):
        raise ValueError(f"{count} intervals cannot be drawn from the {len(starts)} of this proof")
    generator = np.random.default_rng(derive_seed(seed, "random intervals"))
    return sorted(int(start) for start in generator.choice(starts, size=count, replace=False))


def detection_probability(intervals: int, made_up: int, looked_at: int) -> float:
    """That at least one of `made_up` intervals among all is among `looked_at` drawn ones: 1 - C(n-f, m) / C(n, m)."""
    return 1 - math.comb(intervals - made_up, looked_at) / math.comb(intervals, looked_at)
