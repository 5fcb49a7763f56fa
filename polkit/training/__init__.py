"""Training: tasks, data, models, distances, costs, the Conditions of a step, and the step itself."""

from polkit.training.conditions import AUGMENTATIONS, PRECISIONS, Conditions, applied
from polkit.training.cost import Cost, Meter, unit_costs
from polkit.training.data import (
    Points,
    Shifts,
    augment,
    augmentation_order,
    batch_order,
    derive_seed,
    epoch_batches,
    normalise,
    polkit_home,
    signature,
    signatures_of,
    test_points,
    training_points,
)
from polkit.training.distance import DISTANCES, distances
from polkit.training.jobs import Cancelled, Progress, in_background, reported, run_jobs
from polkit.training.models import Distribution, buffer_decays, build_model, initial_buffers, weight_distributions
from polkit.training.step import PARTS, Checkpoint, Learner, accuracy, initial_checkpoint
from polkit.training.task import CIFAR10, CIFAR100, IMAGENET10, NAMED_TASKS, Task, shown_task
