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


def detection_probability(intervals: int, made_up: int, looked_at: int, forgiven: int = 0) -> float:
    """That more than `forgiven` of the `made_up` intervals among all are among `looked_at` drawn ones.

    With none forgiven 1 - C(n-f, m) / C(n, m); otherwise the upper tail of the hypergeometric distribution. With the
    honest intervals above a tight δ for `made_up`, it is the probability that `mostly_within` rejects an honest proof.
    """

    def drawn(found: int) -> int:
        return math.comb(made_up, found) * math.comb(intervals - made_up, looked_at - found)

    return 1 - sum(map(drawn, range(min(forgiven, looked_at) + 1))) / math.comb(intervals, looked_at)
