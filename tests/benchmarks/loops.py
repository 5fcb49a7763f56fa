"""What polkit is measured against: the training loop that somebody writes who has no proof in mind."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

from polkit.training.data import Points, augment, augmentation_order, batch_order, normalise
from polkit.training.models import build_model
from polkit.training.step import initial_checkpoint
from polkit.training.task import Task

STATUS = Path("/proc/self/status")


def bare_loop(
    task: Task, seed: int, points: Points, *, threads: int = 1, device: str = "cpu"
) -> dict[str, torch.Tensor]:
    """Eager PyTorch, default layout, float32, torch's own SGD: the same batches, model and steps as `prove`; W_T.

    points: on the device. Its augmentation is `augment`, vectorised; torchvision's, image by image, would only make it
    slower.
    """
    batches, seeds = batch_order(task, seed), augmentation_order(seed, task.steps)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    model = build_model(task)
    model.load_state_dict(initial_checkpoint(task, seed).weights, strict=False)
    model.to(device)
    optimiser = torch.optim.SGD(
        model.parameters(), lr=task.learning_rate, momentum=task.momentum, weight_decay=task.weight_decay
    )
    for step in range(task.steps):
        chosen = torch.from_numpy(batches[step]).long().to(device)
        images = augment(task, points.images[chosen].float() / 255, int(seeds[step]))
        for group in optimiser.param_groups:
            group["lr"] = task.learning_rate_at(step)
        optimiser.zero_grad()
        F.cross_entropy(model(normalise(task, images)), points.labels[chosen]).backward()
        optimiser.step()
    torch.set_num_threads(before)
    return {name: value.detach() for name, value in model.named_parameters()}


BARE = """
import json, sys
from tests.benchmarks.loops import bare_loop, random_points, seconds_of
from polkit.training.task import Task
task, threads = Task.from_json(json.loads(sys.argv[1])), int(sys.argv[2])
points = random_points(task, task.train_size)
bare_loop(task.replace(epochs=1, train_size=2 * task.batch_size, checkpoint_interval=1), 0, points, threads=threads)
print(seconds_of(lambda: bare_loop(task, 0, points, threads=threads)))
"""


def bare_seconds(task: Task, *, threads: int = 1) -> float:
    """Of `bare_loop` over noise, in a process of its own that no setting of polkit's reaches, after a short warm-up."""
    given = [json.dumps(task.to_json()), str(threads)]
    return float(subprocess.check_output([sys.executable, "-c", BARE, *given]))


def random_points(task: Task, count: int, seed: int = 0) -> Points:
    """Images of noise, where only their number and shape matter."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, *task.image_shape), generator=generator, dtype=torch.uint8)
    return Points(images, torch.randint(0, task.classes, (count,), generator=generator))


def peak_bytes() -> int:
    """The most memory that this process has had at once. FileNotFoundError where there is no /proc, as on macOS.

    Not from `getrusage`, whose maximum survives fork and exec on Linux: a child would be told its parent's.
    """
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())[1])


def seconds_of(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def median_seconds(runs: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """The median seconds of each, repeated in turns, so that all of them see the same moods of the machine."""
    taken = [[seconds_of(run) for run in runs] for _ in range(repeats)]
    return [median(column) for column in zip(*taken, strict=True)]
