"""Exercises of chapter 3, verifying a proof."""

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from polkit.defences import detection_probability
from polkit.training import distances
from polkit_course.checking import exercise, wrong_choice, wrong_function

PAIRS = ((440, 1), (440, 44), (440, 4), (10, 3), (5, 5), (7, 2), (20, 10), (1, 1), (2000, 1))  # n, f
DRAWS = [(n, f, p) for n, f in PAIRS for p in (0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)]


@exercise("3.1", 2, "A comparison must be written so that NaN does not pass, and so must every maximum before it.")
def own_distance(answer: object) -> str:
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    one = {"conv": draw(4, 3, 3, 3), "bias": draw(5)}
    two = {name: one[name] + 0.1 * draw(one[name].shape) for name in reversed(one)}

    def changed(name: str, value: float) -> dict[str, Tensor]:
        return one | {name: one[name].flatten().index_fill(0, torch.tensor(1), value).view_as(one[name])}

    cases = (
        ("two weight sets that differ everywhere", one, two),
        ("two equal weight sets", one, {name: value.clone() for name, value in one.items()}),
        ("one weight of the first tensor far below the other's", one, changed("conv", -50.0)),
        ("one weight of the last tensor far above the other's", one, changed("bias", 50.0)),
        ("a NaN in the first tensor", one, changed("conv", math.nan)),
        ("a NaN in the last tensor", one, changed("bias", math.nan)),
        ("a NaN on the left", changed("bias", math.nan), two),
        ("an infinite weight in the last tensor", one, changed("bias", math.inf)),
        ("the same infinite weight in both", changed("bias", math.inf), changed("bias", math.inf)),
    )
    return wrong_function(answer, "(left, right), two dicts of tensors", wrong_linf, cases)


def wrong_linf(answer: Callable, case: str, left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> str:
    found, wanted = answer(left, right), distances(left, right)
    if isinstance(found, bool) or not hasattr(found, "__float__"):
        return f"For {case} it returns {type(found).__name__}, not a number."
    value, target = float(found), wanted["linf"]
    if not math.isfinite(target):
        return f"For {case} it says {value:g}, and so {value:g} <= δ lets it pass." if value <= 1e300 else ""
    alike = [name for name, other in wanted.items() if math.isclose(value, other, rel_tol=1e-5, abs_tol=1e-9)]
    if "linf" in alike:
        return ""
    beside = f"which is {alike[0]}" if alike else f"but pk.distances says {target:.4g}"
    return f"For {case} it is {value:.4g}, {beside}."


@exercise("3.2", 3, "One faked interval is found with probability m/n; of 44 in 440, 28 draws find one with 95%.")
def draws_needed(answer: object) -> str:
    return wrong_function(answer, "(n, f, p)", wrong_draws, DRAWS)


def wrong_draws(answer: Callable, n: int, f: int, p: float) -> str:
    found = answer(n, f, p)
    if isinstance(found, bool) or not hasattr(found, "__index__"):
        return f"It must return a whole number of intervals, not {found!r}."
    if not 0 <= found <= n:
        return f"Of {n} intervals it would draw {found}."
    # Floating point may be off by one draw where a probability is just p.
    few = detection_probability(n, f, found) < p - 1e-9
    if not few and (not found or detection_probability(n, f, found - 1) < p + 1e-9):
        return ""
    repeated = p < 1 and f < n and found == math.ceil(math.log(1 - p) / math.log(1 - f / n))
    why = " No interval is drawn twice." if repeated else ""
    return f"Of {n} intervals, {f} of them faked, {found} draws are too {'few' if few else 'many'} for p = {p:g}.{why}"


@exercise("3.3", 2, "The forger knows where top-Q looks. Chapter 12 replays the largest updates and random ones.")
def a_choice_that_forgers_cannot_know(answer: object) -> str:
    why_not = {
        "a": "A path may be cut into equal pieces, and a faked interval may be the smallest of its epoch.",
        "b": "Who else can compute which intervals have the largest updates?",
        "c": "Even with half of them it depends on who chooses which.",
        "d": "What must the forger not know while writing the record?",
        "e": "A draw that everybody can make beforehand is as good as an announcement.",
    }
    return wrong_choice(answer, {"b", "d"}, why_not)
