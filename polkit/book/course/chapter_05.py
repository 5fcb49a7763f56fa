"""Exercises of chapter 5, Attack II."""

import math
from collections.abc import Callable

import numpy as np
import torch

from polkit.adversary import interpolation_only
from polkit.book.course.checking import Exercise, wrong_choice, wrong_number
from polkit.book.course.forged import wrong_spoof
from polkit.book.course.straight import least_pieces, path_ratios
from polkit.proof import Proof, needs_points
from polkit.training import Checkpoint, Task, distances
from polkit.verifier import Calibration, Verdict, verify, worst_ratios


def halved_threshold(answer: object, *, first: Checkpoint, final: Checkpoint, calibration: Calibration) -> str:
    ends, interval = (first.weights, final.weights), calibration.task.checkpoint_interval
    allowed = calibration.thresholds["weights"]
    before = least_pieces(*ends, allowed)
    coarser = path_ratios(*ends, max(before - 1, 1), allowed)
    deciding = max(coarser, key=coarser.get)
    after = least_pieces(*ends, {**allowed, deciding: allowed[deciding] / 2})
    traps = {
        2 * before * interval: f"Twice {before * interval} it would be if {deciding} fell like 1/T'.",
        before * interval: "That is the shortest T' with the whole δ.",
        after: "So many intervals there are; T' is counted in steps.",
        after / before: "That is the factor; T' itself is asked.",
    }
    return wrong_number(answer, after * interval, "steps", traps=traps)


def path_from_a_fresh_draw(answer: object, *, fresh: Checkpoint, final: Checkpoint, calibration: Calibration) -> str:
    ends, interval = (fresh.weights, final.weights), calibration.task.checkpoint_interval
    allowed = calibration.thresholds["weights"]
    pieces = least_pieces(*ends, allowed)
    whole = {name: value / allowed[name] for name, value in distances(*ends).items()}
    traps = {
        math.ceil(whole["cos"]) * interval: "cos is no length: the pieces of a way do not share it out evenly. Measure "
        "it between neighbours.",
        math.ceil(max(whole[name] for name in whole if name != "cos"))
        * interval: "So many steps are enough for l1, l2 and l∞; cos is largest where the way passes closest to the "
        "origin.",
        pieces: "So many intervals there are; T' is counted in steps.",
    }
    return wrong_number(answer, pieces * interval, "steps", traps=traps)


def smallest_threshold(answer: object, *, spoof: Proof, verdict: Verdict, calibration: Calibration) -> str:
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        return f"The answer must be a pair, such as (0.5, 'a'), not {type(answer).__name__}."
    if verdict.intervals.empty:
        return f"Nothing was replayed, so that no δ decides: {verdict.reasons[0]}."
    worst = worst_ratios(verdict, calibration).sort_values("ratio").iloc[-1]
    weights = worst_ratios(verdict, calibration, ("weights",))["ratio"].max()
    traps = {
        weights: "That is enough for the weights; this verifier compares the buffers too.",
        1 / worst["ratio"]: "Turn the fraction over: a δ below the calibrated one is asked.",
    }
    said = wrong_number(answer[0], worst["ratio"], "times δ", within=0.05, traps=traps)
    return said or wrong_choice(
        answer[1],
        {what_gives_it_away(worst, spoof, calibration)},
        {
            "a": "the error that is first above δ is not one of the weights, or the batches made more of it than the "
            "path.",
            "b": "the error that is first above δ is not one of the weights, or the path made more of it than the "
            "batches.",
            "c": "look at the part and the steps that the panel's sentence names.",
            "d": "look at the part and the steps that the panel's sentence names.",
        },
    )


def what_gives_it_away(worst: object, spoof: Proof, calibration: Calibration) -> str:
    """The letter of exercise 5.3 for a row of `worst_ratios`: path, batches, other buffers or the last buffers."""
    if worst["part"] == "buffers":
        return "d" if worst["end"] == spoof.steps else "c"
    begin, end = (spoof.checkpoint(int(worst[step])).weights for step in ("start", "end"))
    name = worst["distance"]
    spacing = distances(begin, end)[name] / calibration.thresholds["weights"][name]
    return "a" if spacing > worst["ratio"] / 2 else "b"


def dealt_out(answer: object) -> str:
    if not callable(answer):
        return f"The answer must be a function of (drawn, target), not {type(answer).__name__}."
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    ties = torch.tensor([[1.0, 0.0, 1.0], [0.0, -2.0, 1.0]])
    cases = [
        ("nine numbers", random(9), random(9)),
        ("a convolution of 3 x 3", random(4, 2, 3, 3), random(4, 2, 3, 3)),
        ("a target with equal elements", random(2, 3), ties),
        ("one number", random(1), random(1)),
        ("a target in another memory layout", random(5, 4), random(4, 5).T),
    ]
    return next((said for case in cases if (said := misdealt(answer, *case))), "")


def misdealt(deal_out: Callable[..., object], case: str, drawn: torch.Tensor, target: torch.Tensor) -> str:
    """What is wrong with one tensor that was dealt out; equal elements of the target may be dealt in any order."""
    given = drawn.clone(), target.clone()
    dealt = deal_out(drawn, target)
    if not (torch.equal(drawn, given[0]) and torch.equal(target, given[1])):
        return f"With {case} it changes a tensor that it was given."
    if not isinstance(dealt, torch.Tensor):
        return f"With {case} it returns {type(dealt).__name__}, not a tensor."
    if dealt.shape != target.shape:
        return f"With {case} the result has shape {tuple(dealt.shape)}, the target {tuple(target.shape)}."
    if not torch.equal(dealt.flatten().sort().values, drawn.flatten().sort().values):
        return f"With {case} the result does not hold the drawn numbers, each as often as it was drawn."
    values, wanted = dealt.flatten().numpy(), target.flatten().numpy()
    in_order = values[np.lexsort((values, wanted))]
    if not (np.diff(in_order) < 0).any():
        return ""
    if torch.equal(dealt.flatten(), drawn.flatten().sort().values[target.flatten().argsort()]):
        return f"With {case}: `argsort` says which element of the target is the i-th, not the rank of the i-th element."
    return f"With {case} the numbers are not in the target's order: the largest must stand where the target is largest."


def which_experiment(answer: object) -> str:
    return wrong_choice(
        answer,
        {"c", "d"},
        {
            "a": "it shows that the three ingredients suffice together, not which of them is needed.",
            "b": "it shows that the optimisation does something, not that the verdict depends on it.",
            "c": "Which experiment of the chapter leaves the perturbation out and all else as it is?",
            "d": "One more of them leaves the perturbation out and all else as it is.",
            "e": "a good start is the first ingredient; what the perturbation adds remains open.",
            "f": "it shows how much room the spoof has, with all three ingredients at once.",
        },
    )


def better_pace(answer: object, *, task: Task, final: Checkpoint, calibration: Calibration, spoof: Proof) -> str:
    if wrong := wrong_spoof(answer, final):
        return wrong
    if answer.steps > spoof.steps:
        return f"T' = {answer.steps} is longer than this chapter's spoofs of {spoof.steps} steps."
    if answer.points() is not None and not needs_points(task):
        return "It brings points of its own: leave the data set as it is."
    made = [answer.checkpoint(step) for step in answer.checkpoint_steps]
    if any(bool(value.any()) for checkpoint in made for value in checkpoint.momentum.values()):
        return "Momentum carries it from one checkpoint to the next; the pace of a straight path is to do it alone."
    verdict = verify(answer, calibration, top_q="all", remember=True)
    if not verdict.accepted:
        return f"It is rejected: {verdict.reasons[0]}."
    even = interpolation_only(final, task, spoof_steps=answer.steps, seed=1, progress=False)
    if verify(even, calibration, top_q="all", remember=True).accepted:
        return f"With T' = {answer.steps} an evenly divided path passes as well: no other pace is needed there."
    return ""


EXERCISES = {
    "5.1": Exercise(
        "medium",
        10,
        halved_threshold,
        "The cosine distance of two neighbours falls with the square of their spacing, the three lengths "
        "with the spacing itself: halving δ in cos alone costs the adversary a factor of √2, not 2.",
    ),
    "5.2": Exercise(
        "medium",
        15,
        path_from_a_fresh_draw,
        "The sorted draw passes the same test and saves the adversary most of the way.",
    ),
    "5.3": Exercise(
        "medium",
        10,
        smallest_threshold,
        "On `digits` neither path nor data stop this spoof first: the last checkpoint must hold the stolen "
        "model's running means and variances. A verifier of the weights alone accepts it at a smaller δ.",
    ),
    "5.4": Exercise(
        "medium",
        10,
        dealt_out,
        "A test of the values cannot tell this tensor from the draw: it holds the very same numbers.",
    ),
    "5.5": Exercise(
        "easy",
        5,
        which_experiment,
        "Only leaving an ingredient out says whether it is needed. Here it was not, for the verdict.",
    ),
    "5.6": Exercise(
        "hard",
        20,
        better_pace,
        "A model that stands still at W_T for its last interval ends with the right running means and "
        "variances. The spoof is hardly longer than the path alone demands, and no image was changed.",
    ),
}
