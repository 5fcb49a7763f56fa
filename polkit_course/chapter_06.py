"""Exercises of chapter 6, Attack II."""

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from polkit.adversary import interpolation_only
from polkit.experiments.window import path_spacing
from polkit.proof import Proof, needs_points
from polkit.training import Checkpoint, Task, distances
from polkit.verifier import Calibration, Verdict, verify, worst_ratios
from polkit_course.checking import exercise, wrong_choice, wrong_function, wrong_number, wrong_row, wrong_spoof


@exercise("6.1", 2, "cos falls with the square of the spacing, a length with the spacing: halving cos costs √2, not 2.")
def halved_threshold(answer: object, *, first: Checkpoint, final: Checkpoint, calibration: Calibration) -> str:
    allowed, interval = calibration.thresholds["weights"], calibration.task.checkpoint_interval
    before = least_pieces(first, final, allowed)
    deciding = path_ratios(first, final, max(before - 1, 1), allowed).idxmax()
    after = least_pieces(first, final, {**allowed, deciding: allowed[deciding] / 2})
    traps = {
        2 * before * interval: f"It would be twice {before * interval} if {deciding} fell like 1/T'.",
        before * interval: "That is the shortest T' with the whole δ.",
        after: "That is the number of intervals; T' is counted in steps.",
        after / before: "That is the factor; T' itself is asked.",
    }
    return wrong_number(answer, after * interval, "steps", traps=traps)


def path_ratios(first: Checkpoint, final: Checkpoint, pieces: int, allowed: Mapping[str, float]) -> pd.Series:
    """The largest distance between neighbours of the straight way in so many equal pieces, over the allowed one."""
    return path_spacing(first.weights, final.weights, [pieces]).iloc[0] / pd.Series(allowed)


def least_pieces(first: Checkpoint, final: Checkpoint, allowed: Mapping[str, float]) -> int:
    """The smallest T'/k at which a path of harmless batches is within the allowed distances.

    Raises ValueError where one of them is not above 0.
    """
    if not all(value > 0 for value in allowed.values()):
        raise ValueError(f"no path is fine enough for distances of {dict(allowed)}: each must be above 0")
    whole = distances(first.weights, final.weights)
    pieces = max(1, math.ceil(max(whole[name] / allowed[name] for name in whole if name != "cos")))
    while max(path_ratios(first, final, pieces, allowed)) > 1:
        pieces += 1
    return pieces


@exercise("6.2", 2, "The sorted draw passes the same test and saves the adversary most of the way.")
def path_from_a_fresh_draw(answer: object, *, fresh: Checkpoint, final: Checkpoint, calibration: Calibration) -> str:
    allowed, interval = calibration.thresholds["weights"], calibration.task.checkpoint_interval
    pieces, way = least_pieces(fresh, final, allowed), distances(fresh.weights, final.weights)
    whole = {name: math.ceil(value / allowed[name]) for name, value in way.items()}
    lengths = max(count for name, count in whole.items() if name != "cos")
    traps = {
        whole["cos"] * interval: "cos is no length, which pieces share evenly. Measure it between neighbours.",
        lengths * interval: "That is enough for l1, l2 and l∞; cos is largest where the way is closest to the origin.",
        pieces: "That is the number of intervals; T' is counted in steps.",
    }
    return wrong_number(answer, pieces * interval, "steps", traps=traps)


@exercise("6.3", 2, "The last checkpoint gives it away: its running means and variances must be the stolen model's.")
def smallest_threshold(answer: object, *, spoof: Proof, verdict: Verdict, calibration: Calibration) -> str:
    if wrong := wrong_row(answer, 2, "a pair, such as (0.5, 'a'),"):
        return wrong
    if verdict.intervals.empty:
        return f"Nothing was replayed, so that no δ decides: {verdict.reasons[0]}."
    worst = worst_ratios(verdict, calibration).sort_values("ratio").iloc[-1]
    weights = worst_ratios(verdict, calibration, ("weights",))["ratio"].max()
    traps = {
        weights: "That is enough for the weights; this verifier compares the buffers too.",
        1 / worst["ratio"]: "Turn the fraction over: a δ below the calibrated one is asked.",
    }
    first_above = "the error that is first above δ is not one of the weights, or the"
    why_not = {
        "a": f"{first_above} batches made more of it than the path.",
        "b": f"{first_above} path made more of it than the batches.",
        "c": "look at the part and the steps that the panel's sentence names.",
        "d": "look at the part and the steps that the panel's sentence names.",
    }
    if worst["part"] == "buffers":
        right = "d" if worst["end"] == spoof.steps else "c"
    else:
        ends, name = (spoof.checkpoint(int(worst[step])).weights for step in ("start", "end")), worst["distance"]
        spacing = distances(*ends)[name] / calibration.thresholds["weights"][name]
        right = "a" if spacing > worst["ratio"] / 2 else "b"
    wrong = wrong_number(answer[0], worst["ratio"], "times δ", within=0.05, traps=traps)
    return wrong or wrong_choice(answer[1], {right}, why_not)


@exercise("6.4", 2, "A test of the values cannot tell this tensor from the draw: it holds the very same numbers.")
def dealt_out(answer: object) -> str:
    random = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    cases = (
        ("nine numbers", random(9), random(9)),
        ("a convolution of 3 x 3", random(4, 2, 3, 3), random(4, 2, 3, 3)),
        ("a target with equal elements", random(2, 3), torch.tensor([[1.0, 0.0, 1.0], [0.0, -2.0, 1.0]])),
        ("one number", random(1), random(1)),
        ("a target in another memory layout", random(5, 4), random(4, 5).T),
    )
    return wrong_function(answer, "(drawn, target)", wrong_deal, cases)


def wrong_deal(answer: Callable, case: str, drawn: Tensor, target: Tensor) -> str:
    given = drawn.clone(), target.clone()
    dealt = answer(drawn, target)
    if not (torch.equal(drawn, given[0]) and torch.equal(target, given[1])):
        return f"With {case} it changes a tensor that it was given."
    if not isinstance(dealt, Tensor):
        return f"With {case} it returns {type(dealt).__name__}, not a tensor."
    if dealt.shape != target.shape:
        return f"With {case} the result has shape {tuple(dealt.shape)}, the target {tuple(target.shape)}."
    if not torch.equal(dealt.flatten().sort().values, drawn.flatten().sort().values):
        return f"With {case} the result does not hold the drawn numbers, each as often as it was drawn."
    values, wanted = dealt.flatten().numpy(), target.flatten().numpy()
    in_order = values[np.lexsort((values, wanted))]  # equal elements of the target may be dealt in any order
    if not (np.diff(in_order) < 0).any():
        return ""
    if torch.equal(dealt.flatten(), drawn.flatten().sort().values[target.flatten().argsort()]):
        return f"With {case}: `argsort` says which element of the target is the i-th, not the rank of the i-th element."
    return f"With {case} the numbers are not in the target's order: the largest must stand where the target is largest."


@exercise("6.5", 1, "An ingredient is needed if the spoof fails without it. The verdict here did not need this one.")
def which_experiment(answer: object) -> str:
    why_not = {
        "a": "it shows that the three ingredients suffice together, not which of them is needed.",
        "b": "it shows that the optimisation does something, not that the verdict depends on it.",
        "c": "Which experiment of the chapter leaves the perturbation out and all else as it is?",
        "d": "One more of them leaves the perturbation out and all else as it is.",
        "e": "a good start is the first ingredient; what the perturbation adds remains open.",
        "f": "it shows how much room the spoof has, with all three ingredients at once.",
    }
    return wrong_choice(answer, {"c", "d"}, why_not)


@exercise("6.6", 3, "A model that rests at W_T for its last interval ends with the right running means and variances.")
def better_pace(answer: object, *, task: Task, final: Checkpoint, calibration: Calibration, spoof: Proof) -> str:
    if wrong := wrong_spoof(answer, final):
        return wrong
    if answer.steps > spoof.steps:
        return f"T' = {answer.steps} is longer than this chapter's spoofs of {spoof.steps} steps."
    if answer.points() is not None and not needs_points(task):
        return "It brings points of its own: leave the data set as it is."
    if any(value.any() for step in answer.checkpoint_steps for value in answer.checkpoint(step).momentum.values()):
        return "Momentum carries it from one checkpoint to the next; the pace of a straight path is to do it alone."
    verdict = verify(answer, calibration, top_q="all", remember=True)
    if not verdict.accepted:
        return f"It is rejected: {verdict.reasons[0]}."
    even = interpolation_only(final, task, spoof_steps=answer.steps, seed=1, progress=False)
    too_long = verify(even, calibration, top_q="all", remember=True).accepted
    return f"With T' = {answer.steps} an evenly divided path passes as well." if too_long else ""
