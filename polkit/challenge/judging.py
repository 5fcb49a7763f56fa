"""Who judges a folder that was handed in: Algorithm 2 for everybody to see, and the challenge's own verifier."""

from dataclasses import dataclass
from pathlib import Path

from polkit.challenge.published import ALGORITHM_2, SEEDED, Challenge, Kept
from polkit.defences import Dispute, Finding, ends_at, rule
from polkit.inspection import Reason
from polkit.proof import open_proof
from polkit.reading import shown
from polkit.verifier import verify

# Of the folder itself: no proof of this task could look like that, whatever was computed for it.
UNUSABLE = frozenset({"unusable", "task", "missing", "extra", "digest", "malformed"})


@dataclass(frozen=True)
class Judgement:
    """usable: whether there was a proof of the challenge's task to judge at all · reasons: against it, each one line of
    printable text."""

    accepted: bool
    usable: bool
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        word = "accepted" if self.accepted else "rejected" if self.usable else "not a usable proof"
        more = [f"  and {len(self.reasons) - 8} more"] if len(self.reasons) > 8 else []
        return "\n".join([word, *(f"  {reason}" for reason in self.reasons[:8]), *more])


def preview(challenge: Challenge, folder: Path, *, seed: int = 0, workers: int = 1) -> Judgement:
    """Algorithm 2 at the challenge's Q, with all that is published; and W_T' must be the published model.

    Without that last demand ten honest steps towards another model would do. seed: of redrawn augmentation. As
    `verify`, it raises nothing on a bad proof but FileNotFoundError, if the data set that it claims is not here.
    """
    verdict = verify(folder, challenge.calibration, top_q=challenge.top_q, parts=challenge.parts, seed=seed,
                     workers=workers)  # fmt: skip
    return _judgement(challenge, folder, verdict.accepted, verdict.usable, verdict.reasons)


def judge(challenge: Challenge, kept: Kept, folder: Path, revealed_seed: int | None, *, workers: int = 1) -> Judgement:
    """The challenge's own verifier, with the draws that its lecturer kept.

    revealed_seed: the one that the manifest commits to; without it the presets that ask for it judge nothing.
    """
    if challenge.defences == ALGORITHM_2:
        return preview(challenge, folder, seed=kept.lots, workers=workers)
    if challenge.defences in SEEDED and revealed_seed is None:
        return Judgement(False, False, (f"seed: {challenge.defences} wants the seed that the manifest commits to",))
    # The paper's preset does not look at the seed.
    dispute = Dispute(challenge.model, 0 if revealed_seed is None else revealed_seed, kept.lots)
    ruling = rule(challenge.defences, folder, challenge.calibration, kept.standards, dispute, workers=workers)
    return _judgement(challenge, folder, ruling.accepted, ruling.usable, ruling.findings)


def _judgement(challenge: Challenge, folder: Path, accepted: bool, usable: bool,
               against: tuple[Reason | Finding, ...]) -> Judgement:  # fmt: skip
    if accepted:
        against = tuple(ends_at(open_proof(folder), challenge.model))
    usable = usable and not any(isinstance(each, Reason) and each.kind in UNUSABLE for each in against)
    return Judgement(not against, usable, tuple(shown(str(each)) for each in against))
