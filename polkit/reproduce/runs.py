"""Which runs a table or figure of the paper is made from: an experiment notebook and its parameters each."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product

from polkit.adversary.plan import spoof_length
from polkit.training import Task, shown_task
from polkit.training.task import HALVES, task
from polkit.verifier import REGIMES

# The lengths tried, as T / T' and T' / k: on CIFAR-10 700 to 5,200 steps. 1,600 lies in the narrow window of Figure 3.
DIVISORS, INTERVALS = (110, 63, 50, 31, 22, 15), (7, 12, 16, 25, 35, 52)
EVERY, SHORT, USUAL = range(6), (0, 1), (3,)  # 2,500 steps: the break-even length of Attack II's cost formula


def tried_lengths(chosen: Task, regime: str = "strict", which: Sequence[int] = EVERY) -> list[int]:
    """T' for a task, multiples of its k, from the shortest to the longest.

    In the regime paper a spoof has the paper's number of intervals, which the errors depend on; in the strict one the
    paper's share of T, which the cost depends on. On CIFAR-10 both are the same.
    """
    k = chosen.checkpoint_interval
    if regime == "paper":
        return [INTERVALS[place] * k for place in which]
    return sorted({max(k, round(chosen.steps / DIVISORS[place] / k) * k) for place in which})


def whole_length(chosen: Task, _: str) -> list[int]:
    return [chosen.steps // chosen.checkpoint_interval * chosen.checkpoint_interval]


usual_length, short_lengths = (partial(tried_lengths, which=which) for which in (USUAL, SHORT))


@dataclass(frozen=True)
class Result:
    """What a table or figure shows: every attack at every length under every variant."""

    tasks: tuple[str, ...]  # the paper's own
    attacks: tuple[str, ...] = ()
    lengths: Callable[[Task, str], list[int]] = tried_lengths  # T' for a spoof's task in a regime
    variants: tuple[Mapping[str, object], ...] = ({},)  # parameters of the spoof besides attack and T'
    halves: tuple[str, ...] = ("",)  # of the task, that the prover trains on; of the paper's own tasks only the first
    rates: tuple[float, ...] = (10,)  # in the regime paper a spoof claims η / it; 10 in the code of Zhang et al.
    treated: Mapping[str, object] = field(default_factory=dict)  # parameters of Attacks II and III alone


CIFAR10, CIFAR100, IMAGENET10 = ("cifar10",), ("cifar100",), ("imagenet10",)
PAPER = CIFAR10 + CIFAR100 + IMAGENET10
SECOND = ("attack_2", "interpolation_only")  # each attack beside its ablation
THIRD = ("attack_3", "interpolation_only")
ALL_THREE = ("interpolation_only", "attack_2", "attack_3")
FIRST_HALF = (":first-half",)
TRAINED = ({"trained_steps": 10},)  # the images of the first intervals resist most
OTHER_IMAGES = ({"adversary_half": "second-half"},)
# Figure 10: how far the first checkpoints leave the path, as a share of the weights' size; or a pace that is faster at
# the beginning, as a training is.
OFF_PATH = ({}, {"off_path": 0.03}, {"off_path": 0.25}, {"pace": [[0, 0], [0.1, 0.15], [1, 1]]})
# Only intervals that need it are treated, only until they end near enough.
SPARING = {"leave_within": 0.95, "weigh_linf": True, "iterations": 6}
# Figure 11: float64 stands in for slower hardware, bf16 for other hardware.
OTHER_CONDITIONS = ({}, {"adversary_precision": "float64"}, {"adversary_precision": "bf16"})

RESULTS = {
    "table-2": Result(CIFAR10, ("attack_2",), usual_length),
    # Where all results share one task, its first half is the second data set of Table III.
    "table-3": Result(CIFAR10 + CIFAR100, ("attack_1",), whole_length, halves=("", *FIRST_HALF)),
    "figure-2": Result(CIFAR10, SECOND),
    "figure-3": Result(CIFAR100, SECOND),
    "figure-4": Result(IMAGENET10, SECOND),
    "figure-5": Result(CIFAR10, THIRD),
    "figure-6": Result(CIFAR100, THIRD),
    "figure-7": Result(IMAGENET10, THIRD),
    "figure-8": Result(CIFAR10, SECOND, variants=OTHER_IMAGES, halves=FIRST_HALF),
    "figure-9": Result(CIFAR10, THIRD, variants=OTHER_IMAGES, halves=FIRST_HALF),
    "figure-10": Result(PAPER, ("attack_3",), usual_length, OFF_PATH),
    "figure-11": Result(PAPER, ("attack_2", "attack_3"), usual_length, OTHER_CONDITIONS),
    "figure-12": Result(PAPER, ("attack_3",), usual_length),
    # What the cost formulas of Section III count: N = 10 iterations for every batch, none of which is left early.
    "costs": Result(CIFAR10, ("attack_2", "attack_3"), short_lengths, ({"stopping_test": False, "iterations": 10},)),
    "momentum": Result(
        CIFAR10, ("borrowed_momentum",), lambda t, by: [4 * t.checkpoint_interval, *usual_length(t, by)]
    ),
    "matrix": Result(CIFAR10),
    "presets": Result(CIFAR10),
    # Not the paper's: where the adversarial examples decide, over T' and over the claimed η; and spoofs of its own k.
    "examples": Result(CIFAR10, ALL_THREE, lambda *_: [1000, 1200, 1300, 1400], TRAINED, rates=(16,), treated=SPARING),
    "examples-fashion": Result(CIFAR10, ALL_THREE, lambda *_: [200], TRAINED, rates=(1, 0.625), treated=SPARING),
    "learning-rates": Result(CIFAR10, ALL_THREE, lambda *_: [1200], rates=(8, 16, 24, 32), treated=SPARING),
    "k-100": Result(CIFAR10, THIRD, lambda *_: [1200], ({}, {"trained_steps": 100}), treated=SPARING),
    "paper-scale": Result(CIFAR10, ALL_THREE, lambda *_: [500, 1000, 2500, 4000]),
}
# Not among `all`: every spoof against every defence, an honest proof before every verifier, both regimes on one GPU.
APART = ("matrix", "presets", "examples", "examples-fashion", "learning-rates", "paper-scale", "k-100")
# Asked for in no other regime, unless by name. In the strict one η is the verifier's, whatever a spoof claims.
ONE_REGIME = {"momentum": "strict", "matrix": "strict", "presets": "strict"}
ONE_REGIME |= {"examples": "paper", "examples-fashion": "paper", "learning-rates": "paper", "k-100": "paper"}
SIZES = ("epochs", "checkpoint_interval", "train_size")
# Regime -> precision of a proof on a GPU. There a bf16 replay of bf16 steps on unaugmented images would err by nothing.
ON_GPU = {"paper": "float32", "strict": "bf16"}


@dataclass(frozen=True)
class Run:
    """One execution of an experiment notebook."""

    experiment: str  # the notebook's name
    parameters: Mapping[str, object]  # those that differ from the notebook's own
    needs: str | None = None  # the run that must be over before, if it is in the batch, for what it leaves in the cache
    after: str | None = None  # a run that must be over before, whatever came of it: they would only share one GPU

    @property
    def name(self) -> str:
        """Readable, and other for other parameters: the name of the record."""
        digest = hashlib.sha256(json.dumps([self.experiment, dict(self.parameters)], sort_keys=True).encode())
        known = self.parameters
        length = [f"T{known['spoof_steps']}"] if "spoof_steps" in known else []
        told = [shown_task(str(known["task"])), known.get("regime", "strict"), known.get("attack", self.experiment)]
        told += [*length, f"seed{known['seed']}"]
        return re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(map(str, told))) + "-" + digest.hexdigest()[:8]


def planned_runs(
    results: Sequence[str],
    task_name: str,
    repeats: int,
    *,
    common: Mapping[str, object],
    lengths: Sequence[int] = (),
    spoof_interval: int = 0,
) -> list[Run]:
    """The runs behind these results, each once, a run after the one that it needs.

    results: names of RESULTS; `all`, or none, for those that are not APART
    task_name: one task for all, or `paper` for each result's own
    common, lengths: parameters of all runs (epochs, device, …; a regime, or both); T', instead of the task's own
    spoof_interval: k of the spoofs but Attack I's in the regime paper; 0: the prover's
    Raises ValueError for an unknown result or task.
    """
    unknown = sorted(set(results) - set(RESULTS) - {"all"})
    if unknown:
        known = f"{', '.join(RESULTS)} and all (which is without {' and '.join(APART)})"
        raise ValueError(f"there is no result {unknown[0]!r}; the results are {known}")
    if repeats < 1:
        raise ValueError(f"{repeats} repeats: an average needs at least 1")
    every = "all" in results or not results
    wanted = [name for name in RESULTS if name in results or (every and name not in APART)]
    regimes, found = [common["regime"]] if "regime" in common else [*REGIMES], {}
    for seed, result, regime in product(range(repeats), wanted, regimes):
        if ONE_REGIME.get(result, regime) != regime and (every or len(regimes) > 1):
            continue
        tasks, halves = [task_name], ("",) if task_name.endswith(HALVES) else RESULTS[result].halves
        if task_name == "paper":
            tasks, halves = RESULTS[result].tasks, halves[:1]
        for name, half in product(tasks, halves):
            prover = {"task": name + half, "seed": seed, **common}
            prover |= {} if result == "paper-scale" else {"regime": regime}  # that puts the two in an order of its own
            found |= {run.name: run for run in _runs_of(result, prover, lengths, spoof_interval)}
    if wanted == ["paper-scale"]:  # the shortest first: a limit in time leaves out the longest
        return list(found.values())
    # The longest first, so that no worker is left with a long one at the end: a matrix (all spoofs) before any spoof.
    return sorted(found.values(), key=lambda run: (run.needs is not None, -run.parameters.get("spoof_steps", math.inf)))


def _runs_of(result: str, prover: Mapping[str, object], lengths: Sequence[int], spoof_interval: int) -> Iterator[Run]:
    shown, honest = RESULTS[result], Run("honest", prover)
    chosen = task(prover["task"], **{name: value for name, value in prover.items() if name in SIZES})
    if result == "presets":
        # The first makes the standards by which all are judged; beside it the others would only wait.
        first = Run("presets", {**prover, "seed": 0})
        yield Run("presets", prover, needs=first.name if prover["seed"] else honest.name)
        return
    if result == "paper-scale":
        yield from _both_regimes(chosen, prover, lengths or shown.lengths(chosen, "paper"), spoof_interval)
        return
    yield honest
    if result == "matrix":
        yield Run("matrix", prover, needs=honest.name)
    rates, regime, whole = [{}], str(prover["regime"]), shown.lengths is whole_length
    if regime == "paper":
        rates = [{"spoof_learning_rate": chosen.learning_rate / divisor} for divisor in shown.rates]
        if spoof_interval and not whole:
            rates = [rate | {"spoof_interval": spoof_interval} for rate in rates]
            chosen = chosen.replace(checkpoint_interval=spoof_interval)
    tried = shown.lengths(chosen, regime) if whole or not lengths else lengths
    tried = [spoof_length(chosen, steps) for steps in tried if shown.attacks]
    for steps, attack, rate, variant in product(tried, shown.attacks, rates, shown.variants):
        how = rate | (shown.treated if attack != "interpolation_only" else {})
        yield Run("spoof", {**prover, "attack": attack, "spoof_steps": steps, **how, **variant}, needs=honest.name)


def _both_regimes(
    chosen: Task, prover: Mapping[str, object], lengths: Sequence[int], spoof_interval: int
) -> Iterator[Run]:
    """Proof and δ in both regimes, or the prover's; then cheap spoofs, verdicts on the proofs, and the other spoofs."""
    # A strict verifier decides the learning rate, and would refuse a spoof that claims a tenth of it.
    tenth = {"spoof_learning_rate": chosen.learning_rate / RESULTS["paper-scale"].rates[0]}
    own_k = {"spoof_interval": spoof_interval} if spoof_interval else {}
    rates, proofs, verdicts, spoofs = {"paper": (tenth | own_k, own_k), "strict": ({},)}, [], [], []
    for regime in ON_GPU if "regime" not in prover else (prover["regime"],):
        own = {"precision": ON_GPU[regime], **prover, "regime": regime}
        proofs.append(Run("prepare", {**own, "workers": 2}, after=proofs[-1].name if proofs else None))
        verdicts.append(Run("honest", own, needs=proofs[-1].name))  # `prepare` makes the reference beside the proof
        for steps, rate, attack in product(lengths, rates[regime], RESULTS["paper-scale"].attacks):
            own_task = chosen.replace(checkpoint_interval=rate.get("spoof_interval", chosen.checkpoint_interval))
            how = {"attack": attack, "spoof_steps": spoof_length(own_task, steps), **rate}
            spoofs.append(Run("spoof", {**own, **how}, needs=proofs[-1].name))
    spoofs.sort(key=lambda run: run.parameters["spoof_steps"])
    cheap = [run for run in spoofs if run.parameters["attack"] == "interpolation_only"]
    yield from (*proofs, *cheap, *verdicts, *(run for run in spoofs if run not in cheap))
