"""Exercises of chapter 3, verifying a proof."""

import math
from collections.abc import Mapping
from fractions import Fraction

import pandas as pd
import torch
from torch import Tensor

from polkit.book.course.checking import Exercise, wrong_choice, wrong_number
from polkit.experiments.noise import verdict_at_interval
from polkit.proof import Proof, remembered
from polkit.training import PARTS, distances
from polkit.verifier import Calibration, Verdict, worst_ratios

WIDER = 5  # times the proof's own k


def above_half(answer: object, *, every: Verdict, calibration: Calibration) -> str:
    def above(verdict: Verdict, share: float = 0.5, parts: tuple[str, ...] = PARTS) -> int:
        return int((worst_ratios(verdict, calibration, parts)["ratio"] > share).sum())

    right = above(every)
    # The slider's values are 5 % apart, and none of them is one half exactly.
    if not wrong_number(answer, right, "intervals") or answer in range(above(every, 0.51), above(every, 0.49) + 1):
        return ""
    failed = int((~every.under(calibration.scaled(0.5)).intervals["passed"].astype(bool)).sum())
    traps = {
        above(every.at(1)): "So many are above it with Q = 1; let every interval be replayed.",
        above(every, parts=("weights",)): "So often the weights alone do; the buffers have a δ of their own.",
        failed: "So many single comparisons fail; count each interval once.",
        len(every.intervals["start"].unique()) - right: "So many stay within it.",
    }
    return wrong_number(answer, right, "intervals", traps=traps)


def wider_interval(answer: object, *, every: Verdict, proof: Proof, calibration: Calibration) -> str:
    interval = WIDER * proof.checkpoint_interval

    def replay() -> pd.DataFrame:
        return verdict_at_interval(every, proof, calibration, interval).intervals[["part", "distance", "error"]]

    # Three seconds of replaying, for every answer that a reader tries.
    errors = remembered(
        replay,
        "wider",
        proof=proof.digest,
        task=calibration.task.to_json(),
        interval=interval,
        conditions=calibration.conditions.to_json(),
    )
    allowed = [calibration.thresholds[row.part][row.distance] for row in errors.itertuples()]
    own, right = float(worst_ratios(every, calibration)["ratio"].max()), float((errors["error"] / allowed).max())
    traps = {
        own: f"That is the multiple for k = {proof.checkpoint_interval}; press Run with the larger k.",
        WIDER * own: "So it would be if the errors of single steps simply added up; measure it.",
        1 / right: "That is how many of the largest errors fit into δ; turn the fraction over.",
    }
    return wrong_number(answer, right, "times δ", within=0.05, traps=traps)


def own_distance(answer: object) -> str:
    if not callable(answer):
        return f"The answer must be a function of two dicts of tensors, not {type(answer).__name__}."
    drawn = torch.Generator().manual_seed(0)
    one = {"conv": torch.randn(4, 3, 3, 3, generator=drawn), "bias": torch.randn(5, generator=drawn)}
    two = {name: one[name] + 0.1 * torch.randn(one[name].shape, generator=drawn) for name in reversed(one)}

    def changed(name: str, value: float) -> dict[str, Tensor]:
        other = one[name].clone()
        other.view(-1)[1] = value
        return one | {name: other}

    cases = [
        ("two weight sets that differ everywhere", one, two),
        ("two equal weight sets", one, {name: value.clone() for name, value in one.items()}),
        ("one weight of the first tensor far below the other's", one, changed("conv", -50.0)),
        ("one weight of the last tensor far above the other's", one, changed("bias", 50.0)),
        ("a NaN in the first tensor", one, changed("conv", math.nan)),
        ("a NaN in the last tensor", one, changed("bias", math.nan)),
        ("a NaN on the left", changed("bias", math.nan), two),
        ("an infinite weight in the last tensor", one, changed("bias", math.inf)),
        ("the same infinite weight in both", changed("bias", math.inf), changed("bias", math.inf)),
    ]
    for name, left, right in cases:
        if wrong := _unlike(answer(left, right), left, right):
            return f"For {name} {wrong}"
    return ""


def _unlike(found: object, left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> str:
    wanted = distances(left, right)
    if isinstance(found, bool) or not hasattr(found, "__float__"):
        return f"it returns {type(found).__name__}, not a number."
    value, target = float(found), wanted["linf"]
    if not math.isfinite(target):
        return f"it says {value:g}, and so {value:g} <= δ lets it pass." if value <= 1e300 else ""
    if math.isclose(value, target, rel_tol=1e-5, abs_tol=1e-9):
        return ""
    others = [name for name, other in wanted.items() if math.isclose(value, other, rel_tol=1e-5, abs_tol=1e-9)]
    said = f"which is {others[0]}" if others else f"but pk.distances says {target:.4g}"
    return f"it is {value:.4g}, {said}."


def draws_needed(answer: object) -> str:
    if not callable(answer):
        return f"The answer must be a function of n, m and p, not {type(answer).__name__}."
    cases = [
        (440, 1, 0.5),
        (440, 1, 0.1),
        (440, 44, 0.95),
        (440, 4, 0.95),
        (10, 3, 0.9),
        (10, 3, 0.5),
        (5, 5, 0.99),
        (7, 2, 1.0),
        (20, 10, 0.999),
        (1, 1, 0.5),
        (2000, 1, 0.999),
    ]
    for n, m, p in cases:
        found = answer(n, m, p)
        if isinstance(found, bool) or not hasattr(found, "__index__"):
            return f"It must return a whole number of intervals, not {found!r}."
        found = int(found)
        if not 0 <= found <= n:
            return f"Of {n} intervals it would draw {found}."
        # Whoever computes in floating point may be off by one where a probability is just p.
        few = _caught(n, m, found) < p - 1e-9
        if few or (found and _caught(n, m, found - 1) >= p + 1e-9):
            why = " No interval is drawn twice." if found == _with_repetition(n, m, p) else ""
            word = "few" if few else "many"
            return f"Of {n} intervals, {m} of them faked, {found} draws are too {word} for p = {p:g}.{why}"
    return ""


def _caught(n: int, m: int, drawn: int) -> Fraction:
    """The probability that at least one of m faked intervals is among so many drawn of n."""
    return 1 - Fraction(math.comb(n - m, drawn), math.comb(n, drawn))


def _with_repetition(n: int, m: int, p: float) -> int | None:
    """How many draws are needed if an interval may be drawn twice, where that is a number."""
    return math.ceil(math.log(1 - p) / math.log(1 - m / n)) if p < 1 and m < n else None


def top_q_by_lot(answer: object) -> str:
    return wrong_choice(
        answer,
        {"b", "d"},
        {
            "a": "A path may be cut into equal pieces, and a faked interval may be the smallest of its epoch.",
            "b": "Who else can compute which intervals have the largest updates?",
            "c": "Even if Q were the half of them: it depends on who chooses which.",
            "d": "What must the forger not know while writing the record?",
            "e": "A draw that everybody can make beforehand is as good as an announcement.",
        },
    )


EXERCISES = {
    "3.1": Exercise(
        "easy",
        5,
        above_half,
        "The honest proof is thrown out for few of its intervals, and these come early: one δ for a whole "
        "training is set by its beginning.",
    ),
    "3.2": Exercise(
        "medium",
        10,
        wider_interval,
        "A δ is a δ for one k. An honest prover who records more rarely would be thrown out by it, and a δ "
        "wide enough for him would leave a forger with short intervals several times the room.",
    ),
    "3.3": Exercise(
        "medium",
        10,
        own_distance,
        "A comparison must be written so that NaN does not pass, and so must every maximum on the way to it.",
    ),
    "3.4": Exercise(
        "hard",
        15,
        draws_needed,
        "Whoever fakes a single interval is caught with the probability of the share that is replayed; "
        "whoever must fake one in ten is caught nineteen times in twenty by a few dozen replays.",
    ),
    "3.5": Exercise(
        "medium",
        5,
        top_q_by_lot,
        "Top-Q looks where an honest verifier would look first, and the forger knows where that is. "
        "Chapter 9's verifier replays both, the largest and some by lot.",
    ),
}
