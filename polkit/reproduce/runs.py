"""Which runs a table or figure of the paper is made from: an experiment notebook and its parameters each."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from polkit.training import Task, shown_task
from polkit.training.task import task

# What each result shows: the attack, and the paper's task for it. `momentum` is a spoof that the paper does not know.
RESULTS = {
    "table-2": ("attack_2", ("cifar10",)),
    "table-3": ("attack_1", ("cifar10", "cifar100")),
    "figure-2": ("attack_2", ("cifar10",)),
    "figure-3": ("attack_2", ("cifar100",)),
    "figure-4": ("attack_2", ("imagenet10",)),
    "figure-5": ("attack_3", ("cifar10",)),
    "figure-6": ("attack_3", ("cifar100",)),
    "figure-7": ("attack_3", ("imagenet10",)),
    "figure-8": ("attack_2", ("cifar10",)),
    "figure-9": ("attack_3", ("cifar10",)),
    "figure-10": ("attack_3", ("cifar10", "cifar100", "imagenet10")),
    "figure-11": ("attack_2 and attack_3", ("cifar10", "cifar100", "imagenet10")),
    "figure-12": ("attack_3", ("cifar10", "cifar100", "imagenet10")),
    "momentum": ("borrowed_momentum", ("cifar10",)),
    "matrix": ("every spoof", ("cifar10",)),
    "presets": ("no spoof", ("cifar10",)),
}


# Not the paper's, and not among `all`: every spoof against every defence, an honest proof before every verifier
# (chapter 9). On `digits` a matrix takes 10 minutes of one core, and all others together 15 minutes a training.
APART = ("matrix", "presets")
# T / T' of the lengths tried: on CIFAR-10 700 to 5,200 steps. 1,600 lies in the narrow window of Figure 3.
DIVISORS = (110, 63, 50, 31, 22, 15)
USUAL = 31  # 2,500 steps on CIFAR-10: the break-even length of Attack II's cost formula
# Figure 10: how far the first checkpoints leave the path, as a share of the weights' size. On `digits` δ is 0.06.
OFF_PATH = (0.03, 0.25)
# Figure 11: float64 stands in for slower hardware, bf16 for other hardware.
OTHER_CONDITIONS = ({"adversary_precision": "float64"}, {"adversary_precision": "bf16"})


@dataclass(frozen=True)
class Run:
    """One execution of an experiment notebook. experiment: its name · parameters: what differs from its own ·
    needs: the name of the run that must be over before, if it is in the batch, for what it leaves in the cache."""

    experiment: str
    parameters: Mapping[str, object]
    needs: str | None = None

    @property
    def name(self) -> str:
        """Readable, and other for other parameters: the name of the record."""
        digest = hashlib.sha256(json.dumps([self.experiment, dict(self.parameters)], sort_keys=True).encode())
        known = self.parameters
        length = [f"T{known['spoof_steps']}"] if "spoof_steps" in known else []
        told = [shown_task(str(known["task"])), known.get("attack", self.experiment), *length, f"seed{known['seed']}"]
        return re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(map(str, told))) + "-" + digest.hexdigest()[:8]


def tried_lengths(chosen: Task, divisors: Sequence[int] = DIVISORS) -> list[int]:
    """T' for a task: multiples of k near T / divisor, from the shortest to the longest."""
    k = chosen.checkpoint_interval
    return sorted({max(k, round(chosen.steps / divisor / k) * k) for divisor in divisors})


def planned_runs(
    results: Sequence[str], task_name: str, repeats: int, *, common: Mapping[str, object], lengths: Sequence[int] = ()
) -> list[Run]:
    """The runs behind these results, each once, a proof before the spoofs that need it.

    results: names of RESULTS; `all`, or none, for those that are not APART · task_name: one task for all, or `paper`
    for each result's own · common: parameters of all runs (epochs, device, …) · lengths: T', instead of the task's.
    Raises ValueError for an unknown result or task.
    """
    unknown = sorted(set(results) - set(RESULTS) - {"all"})
    if unknown:
        raise ValueError(
            f"there is no result {unknown[0]!r}; the results are {', '.join(RESULTS)} and all "
            f"(which is without {' and '.join(APART)})"
        )
    if repeats < 1:
        raise ValueError(f"{repeats} repeats: an average needs at least 1")
    together = "all" in results or not results
    wanted = [name for name in RESULTS if name in results or (together and name not in APART)]
    found: dict[str, Run] = {}
    for seed in range(repeats):
        for result in wanted:
            for name in RESULTS[result][1] if task_name == "paper" else (task_name,):
                for parameters in _spoofs_of(result, name, task_name == "paper", common, lengths):
                    shared = {"task": parameters["task"], "seed": seed} | dict(common)
                    honest = Run("honest", shared)
                    if result == "presets":
                        # The first makes the standards by which all are judged; beside it the others would only wait.
                        first = Run("presets", shared | {"seed": 0})
                        judged = Run("presets", shared, needs=first.name if seed else honest.name)
                        found |= {judged.name: judged}
                        continue
                    kind = "matrix" if result == "matrix" else "spoof"
                    spoof = Run(kind, shared | parameters, needs=honest.name)
                    found |= {honest.name: honest, spoof.name: spoof}
    # The longest first, so that no worker is left with a long one at the end: a matrix (all spoofs) before any spoof.
    return sorted(found.values(), key=lambda run: (run.needs is not None, -run.parameters.get("spoof_steps", math.inf)))


def _spoofs_of(
    result: str, name: str, paper: bool, common: Mapping[str, object], lengths: Sequence[int]
) -> Iterator[dict]:
    sizes = {key: value for key, value in common.items() if key in ("epochs", "checkpoint_interval", "train_size")}
    chosen = task(name, **sizes)
    usual = tried_lengths(chosen, [USUAL])
    if result == "table-3":
        for of in (name,) if paper else (name, f"{name}:first-half"):
            known = task(of, **sizes)
            whole = known.steps // known.checkpoint_interval * known.checkpoint_interval
            yield {"task": of, "attack": "attack_1", "spoof_steps": whole}
    elif result in ("matrix", "presets"):
        yield {"task": name}
    elif result == "momentum":
        for steps in lengths or (4 * chosen.checkpoint_interval, *usual):
            yield {"task": name, "attack": "borrowed_momentum", "spoof_steps": steps}
    elif result in ("table-2", "figure-12"):
        for steps in lengths or usual:
            yield {"task": name, "attack": RESULTS[result][0], "spoof_steps": steps}
    elif result in ("figure-8", "figure-9"):
        half = f"{name}:first-half"
        for steps in lengths or tried_lengths(task(half, **sizes)):
            for attack in (RESULTS[result][0], "interpolation_only"):
                yield {"task": half, "attack": attack, "spoof_steps": steps, "adversary_half": "second-half"}
    elif result == "figure-10":
        for steps in lengths or usual:
            for off_path in (0.0, *OFF_PATH):
                extra = {"off_path": off_path} if off_path else {}
                yield {"task": name, "attack": "attack_3", "spoof_steps": steps, **extra}
    elif result == "figure-11":
        for steps in lengths or usual:
            for attack in ("attack_2", "attack_3"):
                for other in ({}, *OTHER_CONDITIONS):
                    yield {"task": name, "attack": attack, "spoof_steps": steps, **other}
    else:
        for steps in lengths or tried_lengths(chosen):
            for attack in (RESULTS[result][0], "interpolation_only"):
                yield {"task": name, "attack": attack, "spoof_steps": steps}
