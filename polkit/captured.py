"""`update` on a GPU without the CPU's part of it: captured once as a CUDA graph, then replayed at every step.

A step of ResNet-20 is some 500 small kernels, and the CPU takes longer to ask for them than the GPU to run them. The
graph holds the very kernels that `update` asks for, so that the bits are the same: it is no matter of the Conditions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor

from polkit.data import Points, Shifts, draw_shifts, shifted
from polkit.training import (
    Checkpoint,
    Learner,
    descend,
    load,
    loss_on,
    set_learning_rate,
    snapshot,
    unit_pixels,
    update,
)

ONE_AT_A_TIME = Lock()  # threads that replay intervals share the GPU
WARM_UP_STEPS = 3  # what libraries make at their first calls must be there before a capture


def updates(learner: Learner, points: Points) -> Callable[..., Tensor]:
    """A function of (indices, step=, augmentation_seed=) that updates the learner on these points; returns the loss.

    points: on the learner's device · indices: int, (B,), any array or tensor · step, augmentation_seed: as in `update`.
    """
    if learner.conditions.device.startswith("cuda"):
        return CapturedUpdate(learner, points)
    if learner.conditions.compiled:
        learner.model.compile(dynamic=False)  # at the first step; in this process, not again for the same model

    def plain(indices, *, step: int, augmentation_seed: int | None) -> Tensor:
        return update(learner, points.take(indices), step=step, augmentation_seed=augmentation_seed)

    return plain


@dataclass(frozen=True)
class Inputs:
    """What changes from step to step, in memory that stays where it is: the graph reads it there."""

    indices: Tensor
    shifts: Shifts | None


class CapturedUpdate:
    """One graph per learning rate, since torch's SGD writes the rate into its kernels; a schedule has three or so."""

    def __init__(self, learner: Learner, points: Points):
        self.learner, self.points = learner, points
        self.captured: tuple[float, bool] | None = None

    def __call__(self, indices, *, step: int, augmentation_seed: int | None) -> Tensor:
        task, device = self.learner.task, self.learner.conditions.device
        indices = torch.as_tensor(indices).to(device, torch.int64, non_blocking=True)
        shifts = None
        if augmentation_seed is not None:
            shifts = draw_shifts(task, len(indices), augmentation_seed).to(device)
        wanted = task.learning_rate_at(step), shifts is not None
        if wanted != self.captured:
            set_learning_rate(self.learner, step)
            self._capture(Inputs(indices.clone(), shifts))
            self.captured = wanted
        self.inputs.indices.copy_(indices)
        if shifts is not None:
            self.inputs.shifts.offsets.copy_(shifts.offsets)
            self.inputs.shifts.flipped.copy_(shifts.flipped)
        self.graph.replay()
        return self.loss.clone()

    def _step(self) -> Tensor:
        self.learner.optimiser.zero_grad()
        batch, shifts = self.points.take(self.inputs.indices), self.inputs.shifts
        images = unit_pixels(self.learner, batch.images)
        if shifts is not None:
            images = shifted(self.learner.task, images, shifts)
        return descend(self.learner, loss_on(self.learner, images, batch.labels))

    def _capture(self, inputs: Inputs) -> None:
        """Leaves the learner's state as it found it."""
        self.inputs, found = inputs, snapshot(self.learner)
        with ONE_AT_A_TIME:
            self._record(found)

    def _record(self, found: Checkpoint) -> None:
        aside = torch.cuda.Stream(self.learner.conditions.device)
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP_STEPS):
                self._step()
        torch.cuda.current_stream().wait_stream(aside)
        load(self.learner, found)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.loss = self._step()
