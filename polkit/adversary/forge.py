"""The frame of every spoof: an attack yields its checkpoints; what is written, and what it cost, stands here once."""

import math
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from threading import get_ident

import numpy as np
import torch
from torch import Tensor

from polkit.adversary.path import at_rest
from polkit.adversary.perturb import Passes
from polkit.adversary.plan import Batch, Plan
from polkit.proof import Proof, cache_folder, fresh_folder, made_alone, publish, seal, write_checkpoint
from polkit.prover import reopened
from polkit.training import Checkpoint, Learner, Meter, Points, applied, buffer_decays, build_model, distances, reported
from polkit.training.jobs import run_jobs
from polkit.training.task import whole


class AttackFailed(ArithmeticError):
    """An adversarial optimisation that did not reach its aim within its budget; the text says by how much."""


@dataclass(frozen=True)
class Made:
    """One checkpoint of a spoof, and what belongs to it."""

    step: int  # t, a multiple of k
    checkpoint: Checkpoint  # W_t
    batches: Sequence[Batch] = ()  # the k perturbed batches of the interval that ends there; none leave the data alone
    trace: Sequence[dict] = ()  # a row per optimisation
    missed: str = ""  # of the last one: by how much the attack missed its aim, in a sentence
    points: Points | None = None  # of the last one: the data under other labels, which then travel with the spoof


def forge(
    plan: Plan, attack: str, make: Callable[..., Iterator[Made]], settings: dict, keep_failed: bool = True
) -> Proof:
    """The spoof whose checkpoints `make(plan, **settings)` yields, written as a proof is, or the one in the cache.

    attack, settings: tell this spoof from others in the cache
    keep_failed: write a spoof that missed its aim, for the verifier to judge; otherwise AttackFailed is raised

    Raises FileExistsError if `plan.out` exists, ValueError for a setting that is no such number.
    """
    least = {"iterations": 0, "draws": 1, "retries": 0, "trained_steps": -math.inf, "rest": 0, "corrections": 0}
    settings = settings | {name: whole(name, settings[name], least[name]) for name in least.keys() & settings}
    for name, number in {"off_path": plan.off_path, **settings}.items():
        if name in ("noise_weight", "leave_within", "off_path") and not 0 <= number < math.inf:
            raise ValueError(f"{name} must be a finite number from 0 up, not {number!r}")
    folder = plan.out or cache_folder("spoofs", attack=attack, **plan.facts(), **settings)
    if plan.out or not folder.exists():
        with made_alone(folder):
            if folder.exists() and plan.out:
                raise FileExistsError(f"{folder} exists already: choose another folder for the spoof")
            if not folder.exists():
                partial = fresh_folder(folder)
                try:
                    trace, missed = _written(plan, attack, make(plan, **settings), partial)
                    if missed and not keep_failed:
                        raise AttackFailed(missed)
                    publish(partial, folder, plan.meter.cost(), plan.meter.counts, trace, missed)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)  # unless it stands at `folder` now
    spoof = replace(reopened(folder), task=plan.task)  # the adversary knows where their folder of images lies
    if spoof.missed() and not keep_failed:
        raise AttackFailed(spoof.missed())
    return spoof


def _written(plan: Plan, attack: str, making: Iterator[Made], partial: Path) -> tuple[list[dict], str]:
    """Writes all that is made, and seals it. Returns the trace, and by how much the aim was missed."""
    published, trace = [], []
    total = len(plan.batches) // plan.task.checkpoint_interval + 1
    counted = reported(making, total=total, title=attack, unit="checkpoint", progress=plan.progress)
    # Closed at once if a file cannot be written: its progress bar must be gone before anybody says so.
    with applied(plan.conditions), closing(making), closing(counted):
        for made in counted:
            write_checkpoint(partial, made.step, made.checkpoint)
            published += made.batches
            trace += made.trace
    points, batches = with_published(made.points or plan.points, plan.batches, published)
    altered = bool(published or made.points)
    seal(partial, plan.task, points, batches, plan.seeds, seed=plan.seed, conditions=plan.conditions, altered=altered)
    return trace, made.missed


def with_published(points: Points, batches: np.ndarray, published: list[Batch]) -> tuple[Points, np.ndarray]:
    """The points and indices of a spoof whose last batches are the published ones.

    Each becomes points of its own: written back over D, as printed, it would undo an earlier one that shares an image.
    """
    if not published:
        return points, batches
    unchanged = len(batches) - len(published)
    parts = [points if unchanged else points.take([]), *(batch.points.to("cpu") for batch in published)]
    whole = Points(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))
    added = np.arange(len(parts[0]), len(whole)).reshape(len(published), -1)
    return whole, np.concatenate([batches[:unchanged], added])


def updated(learner: Learner, plan: Plan, start: int, first: Checkpoint, batches: Sequence[Batch]) -> Checkpoint:
    """Where updates on these batches end, from step `start` on."""
    learner.load(first)
    for step, batch in enumerate(batches, start):
        learner.update(batch.points, step=step, augmentation_seed=batch.augmentation_seed)
        plan.meter.charge("update")
    return learner.snapshot()


def arrived(
    learner: Learner, plan: Plan, step: int, reached: Checkpoint, within: float, batches: list[Batch], left=()
) -> Checkpoint | None:
    """Where the last batches of an interval, `left` behind the others, end, if within this share of δ of W_t."""
    if not within:
        return None
    last = [*batches, *left]
    ended = updated(learner, plan, step, reached, last)
    apart = distances(ended.weights, plan.weights_at(step + len(last)))
    return ended if all(apart[name] <= within * limit for name, limit in plan.thresholds.items()) else None


def trained(learner: Learner, plan: Plan, steps: int) -> Generator[Made, None, Checkpoint]:
    """W_0, W_k, … of an honest training on the plan's own batches (Algorithm 3, lines 2-11); returns the last."""
    now = plan.first
    yield Made(0, now)
    for start in range(0, steps, plan.task.checkpoint_interval):
        now = updated(learner, plan, start, now, plan.interval(start))
        yield Made(start + plan.task.checkpoint_interval, now)
    return now


def as_recorded(plan: Plan, checkpoint: Checkpoint) -> Checkpoint:
    """In the precision of W_T, in which the checkpoints of a spoof are written."""
    kind = next(iter(plan.final.weights.values())).dtype
    return Checkpoint(*({name: value.to(kind) for name, value in part.items()} for part in checkpoint.parts().values()))


Tensors = Mapping[str, Tensor]
# Of one interval: the batches to publish, the normalisation buffers that a replay ends with, the rows of the trace.
Treated = tuple[list[Batch], Tensors, list[dict]]


def along_path(
    plan: Plan, *, treat: Callable[..., Treated], workers: int, trained_steps: int, **settings
) -> Iterator[Made]:
    """Algorithms 4 and 5, lines 1-18: W_0 by sorting, W_k, W_2k, … on the straight path, the data treated to fit.

    treat(passes, plan, start, W_start, **settings): treats one interval, as if the normalisation buffers began with it
    workers: threads that share the intervals, which do not depend on each other
    trained_steps: how many of the first steps are trained; the straight path begins where they end
    """
    k, decays = plan.task.checkpoint_interval, buffer_decays(build_model(plan.task))
    whole("workers", workers, 1)
    if trained_steps % k or not 0 <= trained_steps < len(plan.batches):
        wanted = f"one or more intervals of k = {k}, and fewer than T' = {len(plan.batches)}"
        raise ValueError(f"{trained_steps} trained steps are not {wanted}")
    # Each thread has its own passes; what a GPU has captured for one interval serves the next.
    passes = cache(lambda thread: Passes(plan.learner(), plan.linf_weight))
    for made in trained(passes(get_ident()).learner, plan, trained_steps):
        if made.step < trained_steps:
            yield made
    if trained_steps:
        reached = as_recorded(plan, made.checkpoint)
        plan = replace(plan, first=at_rest(reached.weights, reached.buffers), begun=trained_steps)
    yield Made(plan.begun, plan.first)

    def treated(start: int) -> tuple:
        own, first = replace(plan, meter=Meter(plan.meter.units)), at_rest(plan.weights_at(start), plan.first.buffers)
        with applied(plan.conditions):
            found = treat(passes(get_ident()), own, start, first, **settings)
        return found, own.meter.cost(), own.meter.counts

    buffers, rows, jobs = plan.first.buffers, [], [(treated, (start,)) for start in plan.starts]
    with closing(run_jobs(jobs, workers, "", False, threads=True)) as results:
        for start, (batches, ended, trace) in zip(plan.starts, plan.meter.collect(results), strict=True):
            buffers = chained_buffers(plan.first.buffers, buffers, ended, decays, k)
            rows += trace
            if start < plan.starts[-1]:
                yield Made(start + k, at_rest(plan.weights_at(start + k), buffers), batches, trace)
    # The last checkpoint must be the model that is claimed, with the buffers that model has.
    claimed = at_rest(plan.final.weights, plan.final.buffers)
    yield Made(len(plan.batches), claimed, batches, trace, movement_missed(rows))


def chained_buffers(
    assumed: Tensors, before: Tensors, reached: Tensors, decays: Mapping[str, float], steps: int
) -> dict[str, Tensor]:
    """Where an interval's buffers end that begin at `before`, if from `assumed` they `reached` what they did.

    In r ← (1 - m) r + m · (the batch's statistic) all but (1 - m)^k of another beginning is gone after k batches.
    """
    return {name: reached[name] + decay**steps * (before[name] - assumed[name]) for name, decay in decays.items()}


def movement_missed(trace: list[dict]) -> str:
    """How many updates of Attack II or III move the weights by more than γ in an interval that has not `arrived`."""
    trace = [row for row in trace if "movement_over_limit" in row]  # the others were left alone
    over = [row for row in trace if not row["settled"]]
    if not over:
        return ""
    worst = max(over, key=lambda row: (math.isnan(row["movement_over_limit"]), row["movement_over_limit"]))
    return (
        f"{len(over)} of {len(trace)} updates do not end within γ after {worst['iterations']} iterations; the "
        f"worst, of step {worst['step']}, moves the weights by {worst['movement_over_limit']:.3g} γ"
    )
