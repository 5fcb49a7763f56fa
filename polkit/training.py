"""update(): the one training step that prover, verifier and adversary all call, and the Conditions it runs under."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polkit.cost import Cost
from polkit.data import Points, Shifts, derive_seed, draw_shifts, normalise, shifted
from polkit.models import build_model, initial_buffers, weight_distributions
from polkit.runtime import keep_freed_memory, require_compiler
from polkit.task import Task

PRECISIONS = ("float32", "bf16", "float64")
AUGMENTATIONS = ("replay", "redraw")
PARTS = ("weights", "buffers")  # of a checkpoint, what a verifier compares


@dataclass(frozen=True)
class Conditions:
    """Where and how steps are computed: everything that moves a reproduction error away from zero.

    device: a torch device · precision: float32, bf16 (autocast over float32 weights) or float64 ·
    threads: of the CPU, fixed so that a run can be repeated · onednn: use the oneDNN kernels ·
    augmentation: `replay` uses the seeds a proof recorded, `redraw` draws fresh ones ·
    compiled: torch.compile fuses what stands between the convolutions of the steps that `prove` and a replay take, on a
    CPU with a C++ compiler; attacks differentiate twice, which it cannot, and stay eager.
    """

    device: str = "cpu"
    precision: str = "float32"
    threads: int = 1
    onednn: bool = True
    augmentation: str = "replay"
    compiled: bool = False

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ValueError(f"the precision {self.precision!r} must be one of {', '.join(PRECISIONS)}")
        if self.augmentation not in AUGMENTATIONS:
            raise ValueError(f"the augmentation {self.augmentation!r} must be one of {', '.join(AUGMENTATIONS)}")
        try:
            torch.device(self.device)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"there is no device {self.device!r}; cpu, cuda or cuda:1 would be one") from error
        if self.threads < 1:
            raise ValueError(f"the number of threads is {self.threads}, it must be at least 1")
        if self.compiled and self.device != "cpu":
            raise ValueError(f"steps are compiled for the device cpu only, not for {self.device!r}")

    def replace(self, **changes) -> "Conditions":
        return replace(self, **changes)

    def to_json(self) -> dict:
        """Without `compiled` where steps are not: so it was before there was the choice, and digests stay."""
        return {name: value for name, value in asdict(self).items() if name != "compiled" or value}

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, in memory and on disk."""
        return torch.float64 if self.precision == "float64" else torch.float32


@contextmanager
def applied(conditions: Conditions) -> Iterator[None]:
    """Puts process-wide settings in force and takes them back: threads, oneDNN, deterministic CUDA kernels.

    What glibc keeps of freed memory stays set.
    """
    keep_freed_memory()
    if conditions.device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"the device {conditions.device} is not to be had on this machine; cpu is")
    if conditions.compiled:
        require_compiler()
    threads = torch.get_num_threads()
    cudnn = (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    onednn = torch.backends.mkldnn.enabled
    if conditions.device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    torch.set_num_threads(conditions.threads)
    torch.backends.mkldnn.enabled = conditions.onednn
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.mkldnn.enabled = onednn
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


@dataclass(frozen=True)
class Checkpoint:
    """W_t with all that the next step needs, each a dict of tensors by name, on the CPU.

    weights: the parameters · buffers: running means and variances of the normalisation layers ·
    momentum: one buffer per weight, or empty for a model whose optimiser state nobody knows.
    """

    weights: dict[str, Tensor]
    buffers: dict[str, Tensor]
    momentum: dict[str, Tensor]

    def parts(self) -> dict[str, dict[str, Tensor]]:
        return {"weights": self.weights, "buffers": self.buffers, "momentum": self.momentum}

    def is_finite(self) -> bool:
        # Every checkpoint of a proof waits for this: of `digits` 0.05 ms, by `isfinite` 0.13, tensor by tensor 1.2. The
        # smallest and the largest of values among which is a NaN are NaN.
        joined = (torch.cat([value.flatten() for value in part.values()]) for part in self.parts().values() if part)
        return all(math.isfinite(extreme) for values in joined for extreme in values.aminmax())


@dataclass(frozen=True)
class Learner:
    """A model and its optimiser on a device, ready for `update`; `load` and `snapshot` move its state."""

    task: Task
    conditions: Conditions
    model: nn.Module
    optimiser: torch.optim.SGD

    def autocast(self):
        if self.conditions.precision != "bf16":
            return nullcontext()
        return torch.autocast(torch.device(self.conditions.device).type, dtype=torch.bfloat16)


def make_learner(task: Task, conditions: Conditions) -> Learner:
    # channels_last takes 5.6 ms a step of `digits` where the default layout takes 8.0 ms (one core).
    model = build_model(task).to(conditions.device, conditions.dtype, memory_format=torch.channels_last)
    # foreach: all tensors in one call, the same bits, 0.6 ms less of 7.8 ms a step of `digits`.
    optimiser = torch.optim.SGD(
        model.parameters(), lr=task.learning_rate, momentum=task.momentum, weight_decay=task.weight_decay, foreach=True
    )
    return Learner(task, conditions, model, optimiser)


def initial_checkpoint(task: Task, seed: int) -> Checkpoint:
    """W_0: every weight drawn from its distribution ζ, normalisation buffers at their start, momentum zero."""
    model = build_model(task)
    generator = torch.Generator().manual_seed(derive_seed(seed, "initialisation"))
    drawn = weight_distributions(model)
    shapes = {name: value.shape for name, value in model.named_parameters()}
    weights = {name: drawn[name].draw(shape, generator) for name, shape in shapes.items()}
    momentum = {name: torch.zeros(shape) for name, shape in shapes.items()}
    return Checkpoint(weights, initial_buffers(model), momentum)


@torch.no_grad()
def load(learner: Learner, checkpoint: Checkpoint) -> None:
    """Copies a checkpoint into the learner; absent momentum counts as zero."""
    for name, value in learner.model.named_parameters():
        value.copy_(checkpoint.weights[name])
        recorded = checkpoint.momentum.get(name)
        # In place, where there is one: a captured step goes on with the memory it was captured with.
        state = learner.optimiser.state[value].setdefault("momentum_buffer", torch.empty_like(value))
        state.zero_() if recorded is None else state.copy_(recorded)
    for name, value in learner.model.named_buffers():
        value.copy_(checkpoint.buffers[name])


@torch.no_grad()
def snapshot(learner: Learner) -> Checkpoint:
    """A copy of the learner's state on the CPU, contiguous, in the conditions' weight dtype."""

    def copied(value: Tensor) -> Tensor:
        if not value.is_cuda:
            return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        pinned = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        return pinned.copy_(value.detach().contiguous(), non_blocking=True)

    named = dict(learner.model.named_parameters())
    state = learner.optimiser.state
    taken = Checkpoint(
        {name: copied(value) for name, value in named.items()},
        {name: copied(value) for name, value in learner.model.named_buffers()},
        {name: copied(state[value]["momentum_buffer"]) for name, value in named.items()},
    )
    if learner.conditions.device.startswith("cuda"):
        torch.cuda.current_stream(learner.conditions.device).synchronize()  # once, for all the copies
    return taken


def unit_pixels(learner: Learner, images: Tensor) -> Tensor:
    """uint8 images to the learner's floating-point type in [0, 1], on its device; others pass unchanged."""
    if images.dtype == torch.uint8:
        images = images.to(learner.conditions.device, learner.conditions.dtype) / 255
    return images


def loss_of(learner: Learner, batch: Points, augmentation_seed: int | None) -> Tensor:
    """L(f_W(X), y): mean cross-entropy of one batch, differentiable in the weights and in float images.

    augmentation_seed: None shows the images to the model as they are.
    """
    shifts = None
    if augmentation_seed is not None:
        shifts = draw_shifts(learner.task, len(batch), augmentation_seed).to(learner.conditions.device)
    return loss_shifted(learner, batch, shifts)


def loss_shifted(learner: Learner, batch: Points, shifts: Shifts | None) -> Tensor:
    """`loss_of` with what was drawn for its augmentation."""
    images = unit_pixels(learner, batch.images)
    if shifts is not None:
        images = shifted(learner.task, images, shifts)
    images = normalise(learner.task, images).contiguous(memory_format=torch.channels_last)
    with learner.autocast():
        logits = learner.model(images)
    return F.cross_entropy(logits.to(learner.conditions.dtype), batch.labels.to(logits.device))


def update(learner: Learner, batch: Points, *, step: int, augmentation_seed: int | None) -> Tensor:
    """W_{t+1} ← update(W_t, (X, y)), Algorithm 1 line 7: one SGD step in place; returns the batch's loss.

    batch: images uint8, or float in [0, 1], (B, channels, height, width), labels int64 (B,).
    step: t, counted from 0, which sets the learning rate.
    """
    set_learning_rate(learner, step)
    learner.optimiser.zero_grad()
    return descend(learner, loss_of(learner, batch, augmentation_seed))


def set_learning_rate(learner: Learner, step: int) -> None:
    for group in learner.optimiser.param_groups:
        group["lr"] = learner.task.learning_rate_at(step)


def descend(learner: Learner, loss: Tensor) -> Tensor:
    """One step of the optimiser down this loss; its gradients must have been cleared."""
    loss.backward()
    learner.optimiser.step()
    return loss.detach()


@torch.no_grad()
def accuracy(task: Task, checkpoint: Checkpoint, points: Points, conditions: Conditions) -> float:
    """The share of points that a checkpoint's model classifies correctly, without augmentation."""
    with applied(conditions):
        learner = make_learner(task, conditions)
        load(learner, checkpoint)
        learner.model.eval()
        correct = 0
        for start in range(0, len(points), 500):
            images = normalise(task, unit_pixels(learner, points.images[start : start + 500]))
            predicted = learner.model(images).argmax(1).cpu()
            correct += int((predicted == points.labels[start : start + 500].cpu()).sum())
    return correct / len(points)


# What the paper counts for each (Section III-B, "Cost comparison").
GRADIENTS = {"forward": 0, "update": 1, "objective": 3, "difference": 2}


def unit_costs(task: Task, kinds: Sequence[str] = tuple(GRADIENTS)) -> dict[str, Cost]:
    """The computation of one batch's `forward` pass, `update`, and adversarial `objective`: by a double backward, or
    by the `difference` of two gradients in the images."""
    alike = task.replace(data="", half="", epochs=1, checkpoint_interval=1)
    return {kind: _counted_cost(alike, kind) for kind in kinds}


@lru_cache(maxsize=64)
def _counted_cost(task: Task, kind: str) -> Cost:
    """Counted by running it once on torch's `meta` device, which computes shapes only: 1 s for all of `digits`."""
    from torch.utils.flop_counter import FlopCounterMode  # takes 0.07 s to import, by way of triton

    with torch.device("meta"):
        learner = make_learner(task, Conditions(device="meta"))
    images = torch.empty((task.batch_size, *task.image_shape), device="meta", requires_grad=True)
    labels = torch.zeros(task.batch_size, dtype=torch.int64, device="meta")
    weights = list(learner.model.parameters())

    def forward() -> Tensor:
        # The counter cannot hook a leaf that is a module's own input.
        return F.cross_entropy(learner.model(images.clone()), labels)

    def objective() -> None:
        gradient = torch.autograd.grad(forward(), weights, create_graph=True)
        torch.autograd.grad(sum((part**2).sum() for part in gradient), images)

    def difference() -> None:
        torch.autograd.grad(forward(), [*weights, images])
        torch.autograd.grad(forward(), images)

    runs = {"forward": forward, "update": lambda: torch.autograd.grad(forward(), weights), "objective": objective,
            "difference": difference}  # fmt: skip
    with FlopCounterMode(display=False) as counter:
        runs[kind]()
    return Cost(GRADIENTS[kind], counter.get_total_flops())
