"""Training: tasks, data, models, distances, costs, the Conditions of a step, and the step itself."""

from polkit.training.conditions import PRECISIONS, Conditions, applied
from polkit.training.cost import Cost, Meter, unit_costs
from polkit.training.data import (
    Points,
    augment,
    augmentation_order,
    batch_order,
    derive_seed,
    epoch_batches,
    normalise,
    points_facts,
    polkit_home,
    signature,
    signatures_of,
    test_points,
    training_points,
)
from polkit.training.distance import DISTANCES, distances
from polkit.training.jobs import Progress, reported, run_jobs
from polkit.training.models import buffer_decays, build_model, initial_buffers, weight_distributions
from polkit.training.step import PARTS, Checkpoint, Learner, initial_checkpoint
from polkit.training.task import NAMED_TASKS, Task, is_debris, shown_task, whole
