"""update(): the one training step that prover, verifier and adversary all take, and the Learner that takes it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polkit.training.conditions import Conditions
from polkit.training.data import Points, Shifts, derive_seed, draw_shifts, moved, normalise, shifted
from polkit.training.jobs import stop_if_left
from polkit.training.models import build_model, initial_buffers, together, weight_distributions
from polkit.training.task import Task

PARTS = ("weights", "buffers")  # of a checkpoint, what a verifier compares
ONE_AT_A_TIME = Lock()  # torch allows one capture at a time in a process
LARGEST = torch.finfo(torch.float32).max  # of a number that torch takes for a step; at a larger one it raises
WARM_UP_STEPS = 3  # what libraries make at their first calls must be there before a capture


@dataclass(frozen=True)
class Checkpoint:
    """W_t with all that the next step needs: tensors by name, on the CPU."""

    weights: dict[str, Tensor]  # the parameters
    buffers: dict[str, Tensor]  # running means and variances of the normalisation layers
    momentum: dict[str, Tensor]  # one per weight, or none for a model whose optimiser state nobody knows

    def parts(self) -> dict[str, dict[str, Tensor]]:
        return {"weights": self.weights, "buffers": self.buffers, "momentum": self.momentum}

    def is_finite(self) -> bool:
        joined = (torch.cat([value.flatten() for value in part.values()]) for part in self.parts().values() if part)
        # One pass: the smallest and the largest of values among which is a NaN are NaN.
        return all(math.isfinite(extreme) for values in joined for extreme in values.aminmax())


class Captured:
    """A function of (batch, shifts, *tensors) that reads and writes a learner's state on a GPU, as a CUDA graph.

    It is recorded at the first call, and anew where shifts come or go or the learning rate has changed, which torch's
    SGD writes into its kernels. Shapes and types must not change. The next call overwrites what a call returns.
    """

    def __init__(self, learner: "Learner", function: Callable[..., Any]):
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
        found, device = self.learner.snapshot(), self.learner.conditions.device
        # Both of the learner's GPU, which need not be the current one: there a capture would record nothing.
        aside, here = torch.cuda.Stream(device), torch.cuda.current_stream(device)
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP_STEPS):
                self.call()
        here.wait_stream(aside)
        self.learner.load(found)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=aside, capture_error_mode="thread_local"):
            self.returned = self.call()


class Learner:
    """A model in training mode and its SGD, and how their steps are taken: eagerly, as CUDA graphs, or compiled."""

    def __init__(self, task: Task, conditions: Conditions):
        self.task, self.conditions = task, conditions
        # Faster than the default layout, in which sums are rounded in another order: every party must use the same.
        model = build_model(task).to(conditions.device, conditions.dtype, memory_format=torch.channels_last)
        settings = {"lr": task.learning_rate, "momentum": task.momentum, "weight_decay": task.weight_decay}
        if odd := [f"{name} = {number}" for name, number in settings.items() if abs(number) > LARGEST]:
            raise ValueError(f"task {task.name}: {odd[0]} is above {LARGEST:.3g}, the largest that a step can have")
        self.model, self.optimiser = model, torch.optim.SGD(model.parameters(), **settings, foreach=True)
        self._captured_descend = Captured(self, self.descend)
        if conditions.compiled:
            model.compile(dynamic=False)  # at the first step

    @property
    def captured(self) -> bool:
        """Whether steps are replayed as CUDA graphs."""
        return self.conditions.device.startswith("cuda")

    @torch.no_grad()
    def load(self, checkpoint: Checkpoint) -> None:
        """Takes over a checkpoint; absent momentum counts as zero."""
        for name, value in self.model.named_parameters():
            value.copy_(checkpoint.weights[name])
            recorded = checkpoint.momentum.get(name)
            # In place, where there is one: a captured step goes on with the memory it was captured with.
            state = self.optimiser.state[value].setdefault("momentum_buffer", torch.empty_like(value))
            state.zero_() if recorded is None else state.copy_(recorded)
        for name, value in self.model.named_buffers():
            value.copy_(checkpoint.buffers[name])

    @torch.no_grad()
    def snapshot(self) -> Checkpoint:
        """A copy of the state on the CPU, contiguous, in the conditions' weight dtype."""
        named, state = dict(self.model.named_parameters()), self.optimiser.state
        taken = Checkpoint(
            {name: _on_cpu(value) for name, value in named.items()},
            {name: _on_cpu(value) for name, value in self.model.named_buffers()},
            {name: _on_cpu(state[value]["momentum_buffer"]) for name, value in named.items()},
        )
        if self.captured:
            torch.cuda.current_stream(self.conditions.device).synchronize()  # once, for all the copies
        return taken

    def unit_pixels(self, images: Tensor) -> Tensor:
        """uint8 images as floating-point ones in [0, 1], on the learner's device; others pass unchanged."""
        stored = images.dtype == torch.uint8
        return images.to(self.conditions.device, self.conditions.dtype) / 255 if stored else images

    def draw_shifts(self, count: int, *augmentation_seeds: int | None) -> Shifts | None:
        """What is drawn to augment `count` images, a batch of them for each seed, on the learner's device.

        None where a seed is None: no augmentation.
        """
        stop_if_left()  # here, since every step and every objective draws
        if None in augmentation_seeds:
            return None
        drawn = [draw_shifts(self.task, count // len(augmentation_seeds), seed) for seed in augmentation_seeds]
        offsets, flipped = zip(*drawn, strict=True)
        return moved(self.conditions.device, torch.cat(offsets, 1), torch.cat(flipped))

    def loss(self, batch: Points, augmentation_seed: int | None) -> Tensor:
        """L(f_W(X), y): mean cross-entropy of one batch, differentiable in the weights and in float images."""
        return self.loss_shifted(batch, self.draw_shifts(len(batch), augmentation_seed))

    def losses(self, batches: Points, shifts: Shifts | None, count: int) -> Tensor:
        """L of each of `count` batches, (count,), from one forward pass. batches: one after the other, of one size"""
        with together(self.model, count):
            return self.loss_shifted(batches, shifts, reduction="none").view(count, -1).mean(1)

    def loss_shifted(self, batch: Points, shifts: Shifts | None, reduction: str = "mean") -> Tensor:
        """`loss` with what was drawn for its augmentation."""
        images = self.unit_pixels(batch.images)
        if shifts is not None:
            images = shifted(self.task, images, shifts)
        images = normalise(self.task, images).contiguous(memory_format=torch.channels_last)
        with self.conditions.mixed():
            logits = self.model(images)
        return F.cross_entropy(logits.to(self.conditions.dtype), batch.labels.to(logits.device), reduction=reduction)

    def update(self, batch: Points, *, step: int, augmentation_seed: int | None) -> Tensor:
        """W_{t+1} ← update(W_t, (X, y)), Algorithm 1 line 7: one SGD step in place; returns the batch's loss.

        step: t, counted from 0, which sets the learning rate
        augmentation_seed: of the batch's shifts and flips; None for none
        """
        self.set_learning_rate(step)
        shifts = self.draw_shifts(len(batch), augmentation_seed)
        return self._captured_descend(batch, shifts).clone() if self.captured else self.descend(batch, shifts)

    def set_learning_rate(self, step: int) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.task.learning_rate_at(step)

    def descend(self, batch: Points, shifts: Shifts | None) -> Tensor:
        """One step of the optimiser at the learning rate that is set; returns the batch's loss."""
        self.optimiser.zero_grad()
        loss = self.loss_shifted(batch, shifts)
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def on_batches(self, function: Callable[..., Sequence[Tensor]]) -> Callable[..., Sequence[Tensor]]:
        """`function(points, shifts, *tensors)`, which leaves the weights alone, of points and augmentation seeds.

        A GPU captures it, and the next call overwrites what it returns.
        """
        called = Captured(self, function) if self.captured else function
        return lambda points, seeds, *tensors: called(points, self.draw_shifts(len(points), *seeds), *tensors)


def _on_cpu(value: Tensor) -> Tensor:
    """A contiguous copy on the CPU; a GPU makes it in pinned memory, without waiting."""
    if not value.is_cuda:
        return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    pinned = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
    return pinned.copy_(value.detach().contiguous(), non_blocking=True)


def initial_checkpoint(task: Task, seed: int) -> Checkpoint:
    """W_0: every weight drawn from its distribution ζ, normalisation buffers at their start, momentum zero."""
    model, generator = build_model(task), torch.Generator().manual_seed(derive_seed(seed, "initialisation"))
    drawn, named = weight_distributions(model), dict(model.named_parameters())
    weights = {name: drawn[name].draw(value.shape, generator) for name, value in named.items()}
    momentum = {name: torch.zeros(value.shape) for name, value in named.items()}
    return Checkpoint(weights, initial_buffers(model), momentum)
