"""CUDA graphs, and what only a GPU can show: without one all tests but the first ones are skipped."""

import sys
from types import SimpleNamespace

import pytest
import torch

import polkit as pk
from polkit.adversary.attack_2 import settle_batch
from polkit.adversary.attack_3 import treat_together
from polkit.adversary.perturb import Passes
from polkit.adversary.plan import make_plan
from polkit.reproduce.batch import connected
from polkit.training.conditions import PRECISIONS, applied
from polkit.training.data import batch_order
from polkit.training.step import Captured, Learner
from polkit.verifier.replay import replay

GPU = pk.Conditions(device="cuda")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Played(Captured):
    """On the CPU: a graph whose replay calls the plain function, on the memory that a graph would read."""

    recordings, returned = 0, None

    def record(self):
        self.recordings += 1
        self.graph = SimpleNamespace(replay=self.play)

    def play(self):
        """Each call fills the memory that the first one returned."""
        found = self.call()
        if self.returned is None:
            self.returned = found
        elif isinstance(found, tuple):
            for kept, value in zip(self.returned, found, strict=True):
                kept.copy_(value)
        else:
            self.returned.copy_(found)


class PlayedLearner(Learner):
    """Its passes overwrite what they returned, as a GPU's do."""

    def on_batches(self, function):
        return super().on_batches(Played(self, function))


@pytest.mark.parametrize("attack", ["II", "III"])
def test_several_draws_are_averaged_although_each_pass_overwrites_the_last(small_task, small_proof, attack):
    plan, treated = make_plan(small_proof.final_weights(), small_task, spoof_steps=4, seed=1).limited(None), []
    budget = {"draws": 2, "iterations": 2, "stopping_test": False, "noise_weight": 1e-3, "retries": 0}
    with applied(plan.conditions):
        for kind in (Learner, PlayedLearner):
            passes = Passes(kind(small_task, plan.conditions))
            if attack == "II":
                batches = settle_batch(passes, plan, 0, plan.first, **budget)[0]
            else:
                batches = treat_together(passes, plan, 0, plan.first, leave_within=0.0, **budget)[0]
            treated.append(torch.stack([batch.points.images for batch in batches]))
    assert not torch.equal(treated[0][0], plan.interval(0)[0].points.images)
    assert torch.equal(*treated)


def test_a_graph_is_recorded_for_each_learning_rate_and_fed_every_batch(small_task):
    points, reached = pk.training_points(small_task), []
    conditions = pk.Conditions()
    for captured in (False, True):
        learner = Learner(small_task, conditions)
        learner.load(pk.initial_checkpoint(small_task, 0))
        descend = Played(learner, learner.descend) if captured else learner.descend
        losses = []
        for step in (0, 7, 8, 9):  # the learning rate of small_task drops at step 8
            learner.set_learning_rate(step)
            batch = points.take(range(step * 8, step * 8 + 64))
            losses.append(float(descend(batch, learner.draw_shifts(64, None if step == 9 else step))))
        reached.append((losses, learner.snapshot()))
    assert descend.recordings == 3  # at steps 0, 8, and 9, where nothing is augmented
    assert reached[0][0] == reached[1][0]
    assert pk.distances(reached[0][1].weights, reached[1][1].weights)["l1"] == 0.0


@pytest.mark.gpu
@needs_gpu
def test_points_lie_on_the_device_whole_and_unchanged(small_task):
    points = pk.training_points(small_task)
    moved = points.to("cuda")
    assert moved.images.is_cuda
    assert moved.labels.is_cuda
    torch.cuda.synchronize()
    assert torch.equal(moved.images.cpu(), points.images)
    assert moved.take([3, 1]).images.is_cuda
    back = moved.to("cpu")
    assert torch.equal(back.labels, points.labels)


@pytest.mark.gpu
@needs_gpu
def test_a_learner_keeps_its_filters_channels_last(small_task):
    learner = Learner(small_task, GPU)
    filters = [value for value in learner.model.parameters() if value.dim() == 4]
    assert filters
    assert all(value.is_cuda and value.is_contiguous(memory_format=torch.channels_last) for value in filters)


class PlainLearner(Learner):
    """Its steps are taken as they are written, not captured."""

    captured = False


LEARNERS = (PlainLearner, Learner)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("kind", LEARNERS)
@pytest.mark.gpu
@needs_gpu
def test_no_step_between_checkpoints_waits_for_the_gpu(small_task, kind):
    points, batches = pk.training_points(small_task).to("cuda"), torch.from_numpy(batch_order(small_task, 0)).to("cuda")
    with applied(GPU):
        learner = kind(small_task, GPU)
        learner.load(pk.initial_checkpoint(small_task, 0))
        learner.update(points.take(batches[0]), step=0, augmentation_seed=0)  # makes what is made once
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for step in range(1, 4):
                learner.update(points.take(batches[step]), step=step, augmentation_seed=step)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("augmented", [True, False])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.gpu
@needs_gpu
def test_a_captured_update_has_the_bits_of_a_plain_one(small_task, precision, augmented):
    """Over a drop of the learning rate, and a second time after another state was loaded."""
    task = small_task.replace(milestones=(1,))
    conditions = GPU.replace(precision=precision)
    points, batches = pk.training_points(task).to("cuda"), torch.from_numpy(batch_order(task, 0)).to("cuda")
    around = range(task.steps_per_epoch - 3, task.steps_per_epoch + 3)
    assert len({task.learning_rate_at(step) for step in around}) == 2
    reached = {}
    with applied(conditions):
        for kind in LEARNERS:
            learner = kind(task, conditions)
            for turn in (0, 1):
                learner.load(pk.initial_checkpoint(task, turn))
                losses = [
                    learner.update(points.take(batches[step]), step=step, augmentation_seed=step if augmented else None)
                    for step in around
                ]
                reached[kind, turn] = learner.snapshot(), torch.stack(losses).cpu()
    for turn in (0, 1):
        (here, losses), (there, other_losses) = reached[PlainLearner, turn], reached[Learner, turn]
        assert torch.equal(losses, other_losses)
        for part, named in here.parts().items():
            for name, value in named.items():
                assert torch.equal(value, there.parts()[part][name]), (turn, part, name)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.gpu
@needs_gpu
def test_captured_passes_have_the_bits_of_plain_ones(small_task, precision):
    """Twice: at the capture, and with another batch from another place."""
    conditions, found_by = GPU.replace(precision=precision), {}
    points, batches = pk.training_points(small_task), batch_order(small_task, 0)
    with applied(conditions):
        for kind in LEARNERS:
            learner = kind(small_task, conditions)
            passes, direction = Passes(learner), None
            for turn in (0, 1):
                learner.load(pk.initial_checkpoint(small_task, turn))
                batch = points.take(batches[turn]).to("cuda")
                batch = pk.Points(learner.unit_pixels(batch.images), batch.labels)
                share = torch.full((1,), 0.3 + turn, dtype=conditions.dtype, device="cuda")
                found = {"gradient": passes.gradient(batch, [turn], share)}
                direction = direction or [part.clone() for part in found["gradient"][1:]]
                found = {
                    "objective": passes.objective(batch, [turn], share),
                    "along": passes.slope_along(batch, [turn], share, *direction),
                } | found
                found["update"] = [learner.update(batch, step=0, augmentation_seed=turn)]
                state = [value for part in learner.snapshot().parts().values() for value in part.values()]
                found_by[kind, turn] = {name: [value.cpu() for value in values] for name, values in found.items()}
                found_by[kind, turn]["state"] = state
    for turn in (0, 1):
        for name, values in found_by[PlainLearner, turn].items():
            assert len(values) == len(found_by[Learner, turn][name])
            for number, (here, there) in enumerate(zip(values, found_by[Learner, turn][name], strict=True)):
                assert torch.equal(here, there), (turn, name, number)


@pytest.mark.parametrize("attack", [pk.attack_1, pk.attack_2, pk.attack_3, pk.borrowed_momentum])
@pytest.mark.gpu
@needs_gpu
def test_a_captured_spoof_is_the_plain_one(small_task, small_proof, small_calibration, tmp_path, attack, monkeypatch):
    settings = {} if attack is pk.borrowed_momentum else {"calibration": small_calibration, "iterations": 2}
    monkeypatch.setattr(sys.modules["polkit.adversary.attack_3"], "BATCHES_AT_ONCE", 1)
    spoofs = []
    for captured in (True, False):
        if not captured:
            monkeypatch.setattr("polkit.training.step.Learner.captured", False)
        spoofs.append(
            attack(
                small_proof.final_weights(),
                small_task,
                spoof_steps=16,
                seed=1,
                conditions=GPU,
                out=tmp_path / f"{captured}",
                progress=False,
                **settings,
            )
        )
    assert spoofs[0].manifest["files"] == spoofs[1].manifest["files"]
    assert spoofs[0].counts() == spoofs[1].counts()


@pytest.mark.gpu
@needs_gpu
def test_threads_that_replay_at_once_find_what_one_finds(small_task, tmp_path):
    proof = pk.prove(small_task, 0, out=tmp_path / "proof", conditions=GPU, progress=False)
    starts = proof.checkpoint_steps[:-1]
    errors = [replay(proof, small_task, GPU, starts, 0, workers=workers)["error"].tolist() for workers in (1, 4)]
    assert errors[0] == errors[1] == [0.0] * len(errors[0])


@pytest.mark.gpu
@needs_gpu
def test_a_snapshot_holds_what_the_gpu_held(small_task):
    learner = Learner(small_task, GPU)
    first = pk.initial_checkpoint(small_task, 0)
    learner.load(first)
    for part, named in learner.snapshot().parts().items():
        for name, value in named.items():
            assert torch.equal(value, first.parts()[part][name]), name
            assert value.is_contiguous()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.gpu
@needs_gpu
def test_a_proof_can_be_repeated_byte_for_byte(small_task, tmp_path, precision):
    conditions = GPU.replace(precision=precision)
    proofs = [pk.prove(small_task, 0, out=tmp_path / name, conditions=conditions, progress=False) for name in "ab"]
    assert proofs[0].manifest["files"] == proofs[1].manifest["files"]


@pytest.mark.gpu
@needs_gpu
def test_a_verifier_on_a_gpu_judges_honest_proof_and_spoof(small_task, tmp_path):
    proof = pk.prove(small_task, 0, out=tmp_path / "proof", conditions=GPU, progress=False)
    calibration = pk.calibrate(proof, conditions=GPU, replays=2, out=tmp_path / "c.json", progress=False)
    assert pk.verify(proof, calibration, top_q="all").accepted
    for attack in (pk.attack_2, pk.attack_3):
        spoof, on_cpu = (
            attack(
                proof.final_weights(),
                small_task,
                spoof_steps=8,
                seed=1,
                calibration=calibration,
                iterations=2,
                stopping_test=False,
                conditions=conditions,
                out=tmp_path / f"{attack.__name__} {conditions.device}",
                progress=False,
            )
            for conditions in (GPU, pk.Conditions())
        )
        assert spoof.cost().floating_point_operations == on_cpu.cost().floating_point_operations
        verdict = pk.verify(spoof, calibration, top_q="all")
        assert verdict.usable
        assert {reason.kind for reason in verdict.reasons} <= {"error"}


@pytest.mark.gpu
@needs_gpu
def test_a_cluster_of_this_machine_has_one_worker_for_each_gpu():
    with connected(None, None, on_gpu=True) as client:
        assert len(client.scheduler_info()["workers"]) == torch.cuda.device_count()
