"""Steps on a GPU without the CPU's part of them: captured once as CUDA graphs, then replayed for batch after batch.

A step of ResNet-20 is some 500 small kernels, and the CPU takes longer to ask for them than the GPU to run them. A
graph holds the very kernels that the plain function asks for, so that the bits are the same: it is no matter of the
Conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from polkit.training.data import Points, Shifts

if TYPE_CHECKING:
    from polkit.training.step import Learner

ONE_AT_A_TIME = Lock()  # threads that replay intervals share the GPU
WARM_UP_STEPS = 3  # what libraries make at their first calls must be there before a capture


class Captured:
    """A function of tensors that reads and writes a learner's state, on a GPU: recorded at the first call.

    Every later call must bring tensors of the same shapes. It replays the kernels on them and returns what the function
    returned, in memory that the call after it overwrites.
    """

    def __init__(self, learner: Learner, function: Callable[..., Sequence[Tensor]]):
        self.learner, self.function = learner, function
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *given: Tensor) -> Sequence[Tensor]:
        if self.graph is None:
            self.given = [value.detach().clone() for value in given]  # memory that stays: the graph reads it there
            with ONE_AT_A_TIME:
                self._record()
        for kept, value in zip(self.given, given, strict=True):
            kept.copy_(value)
        self.graph.replay()
        return self.returned

    def _record(self) -> None:
        """Leaves the learner's state as it was."""
        found = self.learner.snapshot()
        aside = torch.cuda.Stream(self.learner.conditions.device)
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP_STEPS):
                self.function(*self.given)
        torch.cuda.current_stream().wait_stream(aside)
        self.learner.load(found)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self.returned = self.function(*self.given)
        self.graph = graph


def captured_on_batches(learner: Learner, function: Callable[..., Sequence[Tensor]]) -> Callable[..., Sequence[Tensor]]:
    """`function(batch, shifts, *tensors)`, captured; without shifts it is called as it is."""

    def flat(images: Tensor, labels: Tensor, offsets: Tensor, flipped: Tensor, *tensors: Tensor) -> Sequence[Tensor]:
        return function(Points(images, labels), Shifts(offsets, flipped), *tensors)

    captured = Captured(learner, flat)

    def called(batch: Points, shifts: Shifts | None, *tensors: Tensor) -> Sequence[Tensor]:
        if shifts is None:
            return function(batch, None, *tensors)
        return captured(batch.images, batch.labels, shifts.offsets, shifts.flipped, *tensors)

    return called


class CapturedSteps:
    """`Learner.descend`, one graph per learning rate, since torch's SGD writes the rate into its kernels; a schedule
    has three or so."""

    def __init__(self, learner: Learner):
        self.learner = learner
        self.recorded: tuple[float, bool] | None = None

    def __call__(self, batch: Points, shifts: Shifts | None, step: int) -> Tensor:
        wanted = self.learner.task.learning_rate_at(step), shifts is not None
        if wanted != self.recorded:
            self.learner.set_learning_rate(step)
            self.captured, self.recorded = Captured(self.learner, self._step), wanted
        drawn = () if shifts is None else (shifts.offsets, shifts.flipped)
        return self.captured(batch.images, batch.labels, *drawn)[0].clone()

    def _step(self, images: Tensor, labels: Tensor, *drawn: Tensor) -> tuple[Tensor]:
        return (self.learner.descend(Points(images, labels), Shifts(*drawn) if drawn else None),)
