"""A commitment to the data before training: one hash of all of it, and a short proof for each point that is used."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from pymerkle import InclusionProof, InmemoryTree, InvalidProof, verify_inclusion

from polkit.proof import Proof, proof_points
from polkit.training import Points, derive_seed, signature
from polkit.verifier import Reason

HASH = "sha256"


@dataclass(frozen=True)
class Commitment:
    """What the prover publishes, with a date, before the first update."""

    root: str  # the Merkle root over its points, in hex
    size: int  # their number


def seed_of(commitment: Commitment) -> int:
    """The 63-bit seed of W_0, batches and augmentation that belongs to these data, so that nobody chooses it.

    After Choi et al. 2023, `prove(task, seed_of(commitment))`. A prover may try orders before the root is public, but
    over a thousand seeds d(W_0, W_T) on `digits` varies by 0.5% (data/results/digits/seeds_by_lot.csv), and the sorted
    W_0 of the attacks is a hundred standard deviations nearer. Raises ValueError if the root is not written in hex.
    """
    root = int.from_bytes(bytes.fromhex(commitment.root), "big")
    return derive_seed(root, "the data", commitment.size)


class CommittedData:
    """The prover's side: the Merkle tree over training points in any order, a leaf for each image with its label."""

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
    tree, root, strange = InmemoryTree(algorithm=HASH), bytes.fromhex(commitment.root), set(range(len(openings)))
    for number, opening in enumerate(openings):
        # The leaf's hash is computed as the tree computes it, from the point that the verifier was shown.
        leaf = tree.hash_buff(signature(points.take([number])))
        if opening is not None:
            with suppress(InvalidProof):
                # An opening is the prover's: neither its hash nor its idea of the tree's size may count.
                verify_inclusion(leaf, root, opening, size=commitment.size, algorithm=HASH)
                strange.remove(number)
    return sorted(strange)


def committed_data(proof: Proof, data: CommittedData, commitment: Commitment, starts: Sequence[int]) -> list[Reason]:
    """Every point of the challenged intervals must lie under the root. data: the prover's tree."""
    points, batches, k = proof_points(proof), proof.batches(), proof.checkpoint_interval
    used = {start: np.unique(batches[start : start + k]) for start in starts}
    # A point is opened once, however many intervals use it.
    every = np.unique(np.concatenate([*used.values(), []])).astype(np.int64)
    shown = points.take(every)
    strange = every[uncommitted(shown, data.openings(shown), commitment)]
    counts = {start: int(np.isin(indices, strange).sum()) for start, indices in used.items()}
    return [
        Reason("data", f"steps {start} to {start + k}: {count} of {len(used[start])} points were not committed", start)
        for start, count in counts.items()
        if count
    ]
