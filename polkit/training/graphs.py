"""Steps on a GPU, captured once as CUDA graphs: the very kernels of the plain function, so the bits are the same."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from polkit.training.data import Points, Shifts

if TYPE_CHECKING:
    from polkit.training.step import Learner

ONE_AT_A_TIME = Lock()  # threads that replay intervals share the GPU
WARM_UP_STEPS = 3  # what libraries make at their first calls must be there before a capture


class Captured:
    """A function of (batch, shifts, *tensors) that reads and writes a learner's state on a GPU, as a CUDA graph.

    It is recorded at the first call, and anew where shifts come or go or the learning rate has changed, which torch's
    SGD writes into its kernels. Shapes and types must not change. The next call overwrites what a call returns.
    """

    def __init__(self, learner: Learner, function: Callable[..., Any]):
        self.learner, self.function = learner, function
        self.recorded: tuple[float, bool] | None = None  # the learning rate, and whether images are augmented

    def __call__(self, batch: Points, shifts: Shifts | None, *tensors: Tensor) -> Any:
        given = (batch.images, batch.labels, *(shifts or ()), *tensors)
        wanted = self.learner.optimiser.param_groups[0]["lr"], shifts is not None
        if wanted != self.recorded:
            self.given = [value.detach().clone() for value in given]  # memory that stays: the graph reads it there
            self.recorded = wanted
            with ONE_AT_A_TIME:
                self.record()
        for kept, value in zip(self.given, given, strict=True):
            kept.copy_(value)
        self.graph.replay()
        return self.returned

    def call(self) -> Any:
        """The plain function, of what lies in the graph's own memory."""
        images, labels, *others = self.given
        shifts = (others.pop(0), others.pop(0)) if self.recorded[1] else None
        return self.function(Points(images, labels), shifts, *others)

    def record(self) -> None:
        """Makes `graph`, which fills `returned`; the learner's state is left as it was."""
        found = self.learner.snapshot()
        aside = torch.cuda.Stream(self.learner.conditions.device)
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP_STEPS):
                self.call()
        torch.cuda.current_stream().wait_stream(aside)
        self.learner.load(found)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.returned = self.call()
