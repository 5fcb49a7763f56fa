"""A commitment to the data before training: one hash of all of it, and a short proof for each point that is used."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pymerkle import InclusionProof, InmemoryTree, InvalidProof, verify_inclusion

from polkit.data import Points, signature
from polkit.defences.checks import Finding
from polkit.proof import Proof
from polkit.replay import proof_points

HASH = "sha256"


@dataclass(frozen=True)
class Commitment:
    """What the prover publishes, with a date, before the first update: the Merkle root over its points, in hex, and
    their number."""

    root: str
    size: int


class CommittedData:
    """The prover's side: the Merkle tree over training points, one leaf for each image with its label.

    points: n images uint8 (n, channels, height, width) and labels int64 (n,), in any order.
    """

    def __init__(self, points: Points):
        self._tree, self._leaves = InmemoryTree(algorithm=HASH), {}
        for number in range(len(points)):
            entry = signature(points.take([number]))
            self._leaves.setdefault(entry, self._tree.append_entry(entry))

    @property
    def commitment(self) -> Commitment:
        return Commitment(self._tree.get_root().hex(), self._tree.get_size())

    def openings(self, points: Points) -> list[InclusionProof | None]:
        """For each point the hashes from its leaf to the root (log2 n of 32 bytes each), None if it has no leaf."""
        leaves = [self._leaves.get(signature(points.take([number]))) for number in range(len(points))]
        return [None if leaf is None else self._tree.prove_inclusion(leaf) for leaf in leaves]


def uncommitted(points: Points, openings: Sequence[InclusionProof | None], commitment: Commitment) -> list[int]:
    """The verifier's side: the positions of the points that no opening leads to the published root."""
    # A leaf's hash is computed as the tree computes it, from the point that the verifier was shown.
    hasher = InmemoryTree(algorithm=HASH)
    return [
        number
        for number, opening in enumerate(openings)
        if opening is None or not _included(hasher, signature(points.take([number])), opening, commitment)
    ]


def _included(hasher: InmemoryTree, entry: bytes, opening: InclusionProof, commitment: Commitment) -> bool:
    try:
        # An opening is the prover's: neither its hash nor its idea of the tree's size may count.
        verify_inclusion(hasher.hash_buff(entry), bytes.fromhex(commitment.root), opening, size=commitment.size,
                         algorithm=HASH)  # fmt: skip
    except InvalidProof:
        return False
    return True


def committed_data(proof: Proof, data: CommittedData, commitment: Commitment,
                   starts: Sequence[int] | None = None) -> list[Finding]:  # fmt: skip
    """Every point of the challenged intervals (default: all) must lie under the published root.

    data: the prover's tree, which opens what it can · commitment: what it published.
    """
    points, batches, k = proof_points(proof), proof.batches(), proof.checkpoint_interval
    used = {start: np.unique(batches[start : start + k])
            for start in (proof.checkpoint_steps[:-1] if starts is None else starts)}  # fmt: skip
    # A point is opened once, however many intervals use it: with 80 intervals of `digits` 1,408 times, not 49,000.
    every = np.unique(np.concatenate([*used.values(), []])).astype(np.int64)
    shown = points.take(every)
    strange = every[uncommitted(shown, data.openings(shown), commitment)]
    counts = {start: int(np.isin(indices, strange).sum()) for start, indices in used.items()}
    return [
        Finding("data", f"steps {start} to {start + k}: {count} of {len(used[start])} points were not committed", start)
        for start, count in counts.items() if count
    ]  # fmt: skip
