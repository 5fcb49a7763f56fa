"""Exercises of chapter 9, the arms race."""

import math
from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
import pandas as pd
import torch

from polkit.adversary import borrowed_momentum, interpolation_only
from polkit.book.course.checking import Exercise, wrong_choice, wrong_number, wrong_numbers
from polkit.defences import detection_probability
from polkit.experiments.gallery import SPOOFS
from polkit.experiments.matrix import HONEST, ON_TOP
from polkit.experiments.window import path_errors, window
from polkit.proof import Proof
from polkit.prover import prove
from polkit.training import Checkpoint, Conditions, Task, applied
from polkit.verifier import Calibration

# n intervals, f of them made up, the probability wanted.
LOTS = ((5, 3, 0.99), (440, 2, 0.5), (440, 2, 0.99), (440, 264, 0.99), (10, 10, 0.5), (5, 3, 1.0), (100, 0, 0.99))


def shut_out(answer: object, *, final: Checkpoint, calibration: Calibration, cost: float) -> str:
    task = calibration.task
    right = {f"with T × {times}": finest(task, final, calibration, times * task.steps, cost) for times in (1, 10)}
    first, last = right.values()
    if wrong_numbers(answer, {"first": last, "last": first}, "times δ", within=0.12) == "":
        return "These two stand in the wrong order: which training leaves the spoof more steps?"
    traps = {
        name: {1 / value: "that is by how much δ falls; the multiple of δ is asked for."}
        for name, value in right.items()
    }
    traps["with T × 10"] |= {
        first: "so it is with T as it is; ten times the steps are ten times as many pieces.",
        10 * first: "a longer training allows a finer path: δ must fall further.",
    }
    return wrong_numbers(answer, right, "times δ", within=0.12, traps=traps)


def finest(task: Task, final: Checkpoint, calibration: Calibration, proof_steps: int, cost: float) -> float:
    """The multiple of δ that the finest path needs which is still cheaper than a proof of these steps."""
    pieces = math.ceil(proof_steps / cost / task.checkpoint_interval) - 1
    errors = path_errors(task, final, np.array([max(1, pieces) * task.checkpoint_interval]))
    return float(window(errors, calibration, proof_steps=proof_steps, cost_per_step=cost)["error_over_threshold"][0])


def lots_needed(answer: object) -> str:
    if not callable(answer):
        return f"The answer must be a function of n, f and the probability, not {type(answer).__name__}."
    for n, made_up, wanted in LOTS:
        case, found = f"{made_up} of {n} made up, probability {wanted}", answer(n, made_up, wanted)
        seen = [detection_probability(n, made_up, drawn) >= wanted for drawn in range(n + 1)]
        if not any(seen):
            if found is not None:
                return f"{case}: no number of lots is enough, and None is asked for."
            continue
        right = seen.index(True)
        back = n if made_up == n else math.log(max(1 - wanted, 1e-300)) / math.log(1 - made_up / n)
        traps = {right / n: f"{case}: that is a share; how many intervals is it?"}
        if back > right * 1.02:
            traps[math.ceil(back)] = f"{case}: nobody looks at an interval twice; so the lots are not independent."
        if wrong := wrong_number(found, right, f"intervals ({case})", traps=traps):
            return wrong
    return ""


def pushing_momentum(answer: object, *, task: Task) -> str:
    if not callable(answer):
        return f"The answer must be a function, not {type(answer).__name__}."
    small = task.replace(epochs=4, checkpoint_interval=min(4, task.steps_per_epoch), milestones=(1,))
    cases = {
        "the task's first interval": (task, 0),
        "μ = 0.5": (task.replace(momentum=0.5), 0),
        "an interval within which the learning rate drops": (small, small.steps_per_epoch - 1),
    }
    generator = torch.Generator().manual_seed(0)
    now, aim = (
        {"layer": torch.randn(3, 4, generator=generator).double(), "bias": torch.randn(4, generator=generator).double()}
        for _ in range(2)
    )
    for name, (given, start) in cases.items():
        momentum = answer(now, aim, given, start)
        if not isinstance(momentum, Mapping) or momentum.keys() != now.keys():
            return f"It must return a dict with the names of the weights ({', '.join(now)}), a tensor for each."
        reached = pushed(now, momentum, given, start)
        way, gone = (torch.cat([(end[each] - now[each]).flatten() for each in now]) for end in (aim, reached))
        share = float(gone @ way / (way @ way))
        if torch.allclose(gone, way, atol=1e-4):
            continue
        if share < 0:
            return f"{name}: the weights go away from the aim: an update is *subtracted*."
        if math.isclose(share, given.momentum, rel_tol=1e-3):
            return f"{name}: the weights stop at {share:.3g} of the way: the first update too takes μ v, not v."
        return f"{name}: the weights go {share:.3g} of the way in k = {given.checkpoint_interval} steps."
    return ""


def pushed(
    now: Mapping[str, torch.Tensor], momentum: Mapping[str, torch.Tensor], task: Task, start: int
) -> dict[str, torch.Tensor]:
    """Where torch's own SGD carries the weights in k updates without any gradient."""
    weights = {name: value.clone().requires_grad_() for name, value in now.items()}
    optimiser = torch.optim.SGD(weights.values(), lr=1.0, momentum=task.momentum)
    for name, value in weights.items():
        value.grad = torch.zeros_like(value)
        optimiser.state[value]["momentum_buffer"] = momentum[name].to(value.dtype).clone()
    for step in range(start, start + task.checkpoint_interval):
        optimiser.param_groups[0]["lr"] = task.learning_rate_at(step)
        optimiser.step()
    return {name: value.detach() for name, value in weights.items()}


def fewest_defences(answer: object, *, trainings: pd.DataFrame, task: str = "digits") -> str:
    chosen = [answer] if isinstance(answer, str) else answer
    if not isinstance(chosen, Iterable) or not all(isinstance(each, str) for each in chosen):
        return f"The answer must be a set of names of verifiers, not {type(answer).__name__}."
    table = trainings[trainings["task"] == task].pivot_table(
        index=["folder", "seed"], columns="defence", values="accepted"
    )
    if strange := sorted(set(chosen) - set(table.columns)):
        return f"The matrix has no verifier {strange[0]!r}."
    if others := sorted(set(chosen) - set(ON_TOP)):
        return f"{others[0]!r} is not one of the defences with one check more than the verifier as published."
    if not chosen:
        return "No defence at all is the verifier as published."
    honest = [defence for defence in chosen if not table.loc[HONEST, defence].all()]
    if honest:
        return f"The honest proof falls to {honest[0]!r} too."
    forged = table.loc[[name for name in SPOOFS if name in table.index]]
    passing = forged[forged[list(chosen)].all(axis=1)]
    if len(passing):
        return f"{passing.index[0][0]} passes all of them in {len(passing.loc[passing.index[0][0]])} of the trainings."
    sound = [defence for defence in ON_TOP if table.loc[HONEST, defence].all()]
    fewer = (few for size in range(1, len(set(chosen))) for few in combinations(sound, size))
    if any(not forged[list(few)].all(axis=1).any() for few in fewer):
        return "They stop every spoof, but fewer of them do."
    return ""


def from_checkpoints_alone(answer: object, *, proof: Proof, final: Checkpoint, spoofs: Mapping[str, Proof]) -> str:
    if not callable(answer):
        return f"The answer must be a function of a proof, not {type(answer).__name__}."
    task, k = proof.task, proof.checkpoint_interval
    short = task.replace(epochs=math.ceil(20 * k / task.steps_per_epoch))
    forged = {name: spoofs[name] for name in ("infinitesimal update", "borrowed momentum")}
    forged[f"interpolation only, T' = {6 * k},"] = interpolation_only(
        final, task, spoof_steps=6 * k, seed=2, progress=False
    )
    forged["borrowed momentum in a zigzag"] = borrowed_momentum(
        final, task, spoof_steps=8 * k, seed=2, off_path=0.6, progress=False
    )
    honest = {
        f"an honest training of {short.steps} steps": prove(short, seed=2, progress=False),
        "the honest proof": proof,
    }
    # One thread: with two, 441 checkpoints take a minute in place of a second while others have the cores.
    with applied(Conditions()):
        for name, folder in {**forged, **honest}.items():
            found = answer(folder)
            if not isinstance(found, (bool, np.bool_)):
                return f"It must return True or False, not {type(found).__name__}."
            if bool(found) is not (name in honest):
                return f"It {'turns away' if name in honest else 'accepts'} {name.rstrip(',')}."
    return ""


def paid_by_the_prover(answer: object) -> str:
    return wrong_choice(
        answer,
        {"b", "d", "e"},
        {
            "a": "eight bytes a step are nothing beside the checkpoints.",
            "b": "What does the prover store at every checkpoint?",
            "c": "the prover has handed in the proof by then; it is the verifier who computes.",
            "d": "What does a step in float64 cost, against one in float32?",
            "e": "Who makes the proof of a step?",
            "f": "that is one hash for each image, once.",
            "g": "the momentum stands in the checkpoint already; the verifier compares one tensor more.",
        },
    )


EXERCISES = {
    "9.1": Exercise(
        "easy",
        5,
        shut_out,
        "Where one of the three distances that are lengths decides, the δ that shuts the window goes as "
        "1/T: who trains ten times as long must be verified ten times as closely.",
    ),
    "9.2": Exercise(
        "medium",
        15,
        lots_needed,
        "Three lots catch blindfold top-Q, whose intervals are mostly made up. Two made-up intervals of "
        "440 ask for nine tenths of the whole training to be replayed: lots are cheap only against forgers "
        "who forge much.",
    ),
    "9.3": Exercise(
        "medium",
        15,
        pushing_momentum,
        "One line of algebra takes the place of the fine path and of the adversarial examples. It works "
        "because the momentum is loaded and not compared.",
    ),
    "9.4": Exercise(
        "medium",
        10,
        fewest_defences,
        "Two defences are enough for the spoofs of this matrix, and one is not. But these spoofs were not "
        "written against that pair: every defence here was alone once, until somebody wrote the answer.",
    ),
    "9.5": Exercise(
        "hard",
        20,
        from_checkpoints_alone,
        "Drawn ways and pushed weights show without a replay. In the matrix two such checks, of "
        "straightness and of speed, stop every spoof between them. Whether an adversary who knows both "
        "limits can keep to them, and at what price, was not measured.",
    ),
    "9.6": Exercise(
        "easy",
        5,
        paid_by_the_prover,
        "Recorded seeds and compared momenta cost the prover next to nothing, and nothing keeps a verifier "
        "from asking for them. What a prover feels are a smaller k, exact arithmetic, and proofs of "
        "computation.",
    ),
}
