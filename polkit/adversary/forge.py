"""What the attacks share: forging a spoof interval by interval, and writing it in the very format of a proof."""

import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from polkit.adversary.path import at_rest
from polkit.adversary.perturb import Batch, Passes, passes_of
from polkit.adversary.plan import Plan
from polkit.proof import (
    Proof,
    cache_folder,
    fresh_folder,
    made_alone,
    needs_points,
    open_proof,
    publish,
    seal,
    write_checkpoint,
)
from polkit.training import (
    Checkpoint,
    Cost,
    Learner,
    Meter,
    Points,
    Progress,
    applied,
    buffer_decays,
    build_model,
    reported,
    run_jobs,
    signatures_of,
)


class AttackFailed(ArithmeticError):
    """An adversarial optimisation that did not reach its aim within its budget; the text says by how much."""


@dataclass(frozen=True)
class Forged:
    """One interval as an attack made it. batches: the k batches to publish, or none to leave the data as it is ·
    buffers: the normalisation buffers that a replay of them ends with · trace: a row per optimisation."""

    batches: list[Batch]
    buffers: dict[str, torch.Tensor]
    trace: list[dict] = field(default_factory=list)


def forge(
    plan: Plan,
    attack: str,
    forge_interval: Callable[..., Forged],
    settings: dict,
    *,
    out: str | Path | None,
    workers: int,
    progress: Progress,
    keep_failed: bool = True,
    trained_steps: int = 0,
) -> Proof:
    """Algorithms 4 and 5, lines 1-18: W_0 by sorting, W_k, W_2k, … on the straight path, the data forged to fit.

    trained_steps: how many of the first steps are trained indeed; the straight path begins where they end.
    forge_interval(passes, plan, start, W_start, **settings) makes the data of one interval. Intervals do not depend
    on each other, so that `workers` can share them.
    """
    asked = settings | ({"trained_steps": trained_steps} if trained_steps else {})
    with spoof_place(plan, attack, asked, out) as (folder, partial):
        if partial is None:
            return already_made(plan, folder, keep_failed)
        interval = plan.task.checkpoint_interval
        if trained_steps:
            plan = begun_by_training(plan, partial, trained_steps, attack, progress)
        write_checkpoint(partial, plan.begun, plan.first)
        decays = buffer_decays(build_model(plan.task))
        buffers, published, trace = plan.first.buffers, [], []
        idle: list[Passes] = []
        jobs = [(_forge_alone, (plan, forge_interval, start, settings, idle)) for start in plan.starts]
        # Closed at once if a file cannot be written: its progress bar must be gone before anybody says so.
        with applied(plan.conditions), closing(run_jobs(jobs, workers, attack, progress, threads=True)) as results:
            for start, forged in zip(plan.starts, plan.meter.collect(results), strict=True):
                buffers = chained_buffers(plan.first.buffers, buffers, forged.buffers, decays, interval)
                # The last checkpoint must be the model that is claimed, with the buffers that model has.
                shown = plan.final.buffers if start == plan.starts[-1] else buffers
                weights = plan.weights_at(start + interval)
                write_checkpoint(partial, start + interval, Checkpoint(weights, shown, at_rest(weights)))
                published += forged.batches
                trace += forged.trace
        return write_spoof(
            plan, partial, folder, published, trace, missed=movement_missed(trace), keep_failed=keep_failed
        )


def _forge_alone(
    plan: Plan, forge_interval: Callable[..., Forged], start: int, settings: dict, idle: list[Passes]
) -> tuple[Forged, Cost, Counter[str]]:
    """One interval by itself, as if the normalisation buffers began with it, and what it took.

    idle: passes that no thread is using, for the next interval: on a GPU, what was captured need not be captured again.
    """
    alone = replace(plan, meter=Meter(plan.meter.units))
    weights = plan.weights_at(start)
    with applied(plan.conditions):
        try:
            passes = idle.pop()
        except IndexError:
            passes = passes_of(Learner(plan.task, plan.conditions))
        forged = forge_interval(
            passes, alone, start, Checkpoint(weights, plan.first.buffers, at_rest(weights)), **settings
        )
        idle.append(passes)
    return forged, alone.meter.cost(), alone.meter.counts


def chained_buffers(
    assumed: Mapping[str, torch.Tensor],
    before: Mapping[str, torch.Tensor],
    reached: Mapping[str, torch.Tensor],
    decays: Mapping[str, float],
    steps: int,
) -> dict[str, torch.Tensor]:
    """Where an interval's buffers end that begin at `before`, if from `assumed` they `reached` what they did.

    In r ← (1 - m) r + m · (the batch's statistic), another beginning differs by (1 - m)^k of itself at the end; what
    the batches add is the same.
    """
    return {name: reached[name] + decay**steps * (before[name] - assumed[name]) for name, decay in decays.items()}


def replayed_buffers(
    passes: Passes, plan: Plan, start: int, checkpoint: Checkpoint, batches: list[Batch]
) -> dict[str, torch.Tensor]:
    """The normalisation buffers that a verifier's replay of these batches ends with.

    Forward passes at W_{t-k} alone would cost a third, but the weights move a little on the way: in the first
    interval of `digits` that put the cosine distance of the buffers above δ in one spoof of three.
    """
    passes.learner.load(checkpoint)
    for step, batch in enumerate(batches, start):
        passes.update(batch.points, step=step, augmentation_seed=batch.augmentation_seed)
        plan.meter.charge("update")
    return passes.learner.snapshot().buffers


@contextmanager
def spoof_place(plan: Plan, attack: str, settings: dict, out: str | Path | None) -> Iterator[tuple[Path, Path | None]]:
    """Where the spoof is to stand, `out` or a place in the cache, and an empty folder to put it together in; None in
    place of that if the cache has the spoof already. No other process works there meanwhile.

    Raises FileExistsError if `out` exists.
    """
    folder = Path(out) if out else cache_folder("spoofs", attack=attack, **plan.facts(), **settings)
    if folder.exists() and not out:
        yield folder, None
        return
    with made_alone(folder):
        if folder.exists() and out:
            raise FileExistsError(f"{out} exists already: choose another folder for the spoof")
        if folder.exists():
            yield folder, None
            return
        partial = fresh_folder(folder)
        try:
            yield folder, partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)  # unless it stands at `folder` now: half a spoof is of no use


def train_on_the_plan(passes: Passes, plan: Plan, partial: Path, steps: int, title: str, progress: Progress) -> None:
    """The first `steps` updates on the plan's own batches, from its checkpoint 0 on (Algorithm 3, lines 3-11)."""
    for step in reported(range(steps), total=steps, title=title, unit="step", progress=progress):
        batch = plan.batch(step)
        passes.update(batch.points, step=step, augmentation_seed=batch.augmentation_seed)
        plan.meter.charge("update")
        if (step + 1) % plan.task.checkpoint_interval == 0:
            write_checkpoint(partial, step + 1, passes.learner.snapshot())


def begun_by_training(plan: Plan, partial: Path, steps: int, title: str, progress: Progress) -> Plan:
    """The plan whose straight path begins where `steps` updates from its W_0 end, at rest; writes their checkpoints.

    Raises ValueError unless the steps are whole intervals, and fewer than all.
    """
    interval, whole = plan.task.checkpoint_interval, len(plan.batches)
    if steps % interval or not 0 < steps < whole:
        raise ValueError(
            f"{steps} trained steps are not one or more intervals of k = {interval}, and fewer than T' = {whole}"
        )
    with applied(plan.conditions):
        passes = passes_of(Learner(plan.task, plan.conditions))
        passes.learner.load(plan.first)
        write_checkpoint(partial, 0, plan.first)
        train_on_the_plan(passes, plan, partial, steps, title, progress)
        reached = as_recorded(plan, passes.learner.snapshot())
    return replace(plan, first=replace(reached, momentum=at_rest(reached.weights)), begun=steps)


def as_recorded(plan: Plan, checkpoint: Checkpoint) -> Checkpoint:
    """In the precision of W_T, in which the checkpoints of a spoof are written."""
    kind = next(iter(plan.final.weights.values())).dtype
    parts = checkpoint.parts().values()
    return Checkpoint(*({name: value.to(kind) for name, value in part.items()} for part in parts))


def already_made(plan: Plan, folder: Path, keep_failed: bool = True) -> Proof:
    """The spoof in the cache. Raises AttackFailed if it missed its aim and is not to be kept for that."""
    spoof = replace(open_proof(folder), task=plan.task)  # the adversary knows where its folder of images lies
    if spoof.missed() and not keep_failed:
        raise AttackFailed(spoof.missed())
    return spoof


def movement_missed(trace: list[dict]) -> str:
    """How many optimisations of Attack II or III still moved the weights by more than γ, or nothing."""
    over = [row["movement_over_limit"] for row in trace if not row.get("movement_over_limit", 0) <= 1]  # NaN is over
    if not over:
        return ""
    worst = max(trace, key=lambda row: (math.isnan(row["movement_over_limit"]), row["movement_over_limit"]))
    return (
        f"{len(over)} of {len(trace)} optimisations did not end within γ in {worst['iterations']} iterations; the "
        f"worst, of step {worst['step']}, moves the weights {worst['movement_over_limit']:.3g} γ"
    )


def write_spoof(
    plan: Plan,
    partial: Path,
    folder: Path,
    published: list[Batch],
    trace: list[dict],
    *,
    relabelled: bool = False,
    missed: str = "",
    keep_failed: bool = True,
) -> Proof:
    """Indices, signatures and data of a spoof whose checkpoints are in `partial`.

    relabelled: whether the plan's labels are no longer the data set's own, so that the points must travel along ·
    published: the batches whose images were changed, the last ones of the spoof. Each becomes points of its own:
    writing them back over D, as the printed algorithms do, would undo an earlier batch that shares an image.
    missed: by how much the optimisation missed its aim, if it did; then AttackFailed, unless keep_failed.
    """
    if missed and not keep_failed:
        raise AttackFailed(missed)
    points, batches = plan.points, plan.batches
    if published:
        unchanged = len(batches) - len(published)
        kept = points if unchanged else points.take([])
        changed = [batch.points.to("cpu") for batch in published]
        points = Points(
            torch.cat([kept.images, *(batch.images for batch in changed)]),
            torch.cat([kept.labels, *(batch.labels for batch in changed)]),
        )
        added = np.arange(len(kept), len(points)).reshape(-1, plan.task.batch_size)
        batches = np.concatenate([batches[:unchanged], added])
    seal(
        partial,
        task=plan.task,
        checkpoint_interval=plan.task.checkpoint_interval,
        seed=plan.seed,
        conditions=plan.conditions,
        batches=batches,
        signatures=signatures_of(points, batches),
        augmentation_seeds=plan.seeds,
        points=points if published or relabelled or needs_points(plan.task) else None,
    )
    made = publish(partial, folder, plan.meter.cost(), plan.meter.counts, trace, missed)
    return replace(made, task=plan.task)
