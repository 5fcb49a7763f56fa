import shutil

import pytest
import torch

import polkit as pk
from polkit.proof.checkpoints import checkpoint_steps
from polkit.training.conditions import applied
from polkit.training.data import batch_order
from polkit.training.step import Learner


def contents(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_resumed_proof_does_not_repeat_whole_intervals(small_task, tmp_path, monkeypatch):
    done, real = [], Learner.update

    def update(*arguments, step, **named):
        if step == 10 and 10 not in done:
            done.append(step)
            raise KeyboardInterrupt
        done.append(step)
        return real(*arguments, step=step, **named)

    monkeypatch.setattr(Learner, "update", update)
    with pytest.raises(KeyboardInterrupt):
        pk.prove(small_task, out=tmp_path / "proof", progress=False)
    pk.prove(small_task, out=tmp_path / "proof", progress=False)
    assert done == [*range(11), *range(8, 16)]


def test_the_seed_decides_everything(small_proof, small_task, tmp_path):
    again = pk.prove(small_task, seed=0, out=tmp_path / "again", progress=False)
    other = pk.prove(small_task, seed=1, out=tmp_path / "other", progress=False)
    assert again.digest == small_proof.digest
    assert other.digest != small_proof.digest
    assert (other.batches() != small_proof.batches()).any()


def test_the_last_checkpoint_is_w_t_even_if_k_does_not_divide_t(small_task, tmp_path):
    proof = pk.prove(small_task.replace(checkpoint_interval=5), out=tmp_path / "odd", progress=False)
    assert proof.checkpoint_steps == [0, 5, 10, 15, 16]
    final = pk.train(small_task, 0, pk.Conditions(), pk.training_points(small_task))
    assert set(pk.distances(proof.final_weights().weights, final.weights).values()) == {0.0}


def test_a_finished_proof_is_returned_and_another_is_not_overwritten(small_proof, small_task):
    assert pk.prove(small_task, seed=0, out=small_proof.folder, progress=False).digest == small_proof.digest
    with pytest.raises(FileExistsError, match="other conditions"):
        pk.prove(small_task, out=small_proof.folder, conditions=pk.Conditions(precision="float64"), progress=False)
    with pytest.raises(FileExistsError, match="another task or seed"):
        pk.prove(small_task, seed=1, out=small_proof.folder, progress=False)


def test_an_unfinished_proof_of_other_settings_is_not_resumed(small_task, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("polkit.training.step.Learner.update", stop)
        with pytest.raises(KeyboardInterrupt):
            pk.prove(small_task, seed=0, out=tmp_path / "proof", progress=False)
    with pytest.raises(FileExistsError, match="unfinished proof of other settings"):
        pk.prove(small_task, seed=1, out=tmp_path / "proof", progress=False)


def test_without_out_a_proof_is_kept_in_the_cache(small_task, home):
    task = small_task.replace(epochs=1)
    first = pk.prove(task, progress=False)
    assert home in first.folder.parents
    written = (first.folder / "manifest.json").stat().st_mtime_ns
    assert pk.prove(task, progress=False).folder == first.folder
    assert (first.folder / "manifest.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("interval", "expected"), [(1, list(range(17))), (3, [0, 3, 6, 9, 12, 15, 16]), (8, [0, 8, 16]), (16, [0, 16])]
)
def test_there_are_as_many_checkpoints_as_algorithm_1_appends(interval, expected):
    assert checkpoint_steps(16, interval) == expected
    assert len(expected) == 16 // interval + 1 + (16 % interval > 0)


def test_each_checkpoint_is_the_state_after_its_steps(small_proof, small_task):
    points, batches, seeds = pk.training_points(small_task), small_proof.batches(), small_proof.augmentation_seeds()
    learner = Learner(small_task, pk.Conditions())
    learner.load(pk.initial_checkpoint(small_task, 0))
    with applied(pk.Conditions()):
        for step in range(9):
            if step in (0, 4, 8):
                reached, recorded = learner.snapshot().parts(), small_proof.checkpoint(step).parts()
                for part, named in recorded.items():
                    assert all(torch.equal(value, reached[part][name]) for name, value in named.items()), (step, part)
            learner.update(points.take(batches[step]), step=step, augmentation_seed=int(seeds[step]))


def test_the_batches_of_each_epoch_are_a_permutation(small_proof, small_task):
    epochs = small_proof.batches().reshape(4, 256)
    assert all(sorted(epoch) == list(range(256)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 4
    assert len(set(small_proof.augmentation_seeds().tolist())) == 16
    shorter = batch_order(small_task.replace(train_size=200), 0).reshape(4, 192)  # 8 images sit each epoch out
    assert all(len(set(epoch)) == 192 and 0 <= min(epoch) <= max(epoch) < 200 for epoch in shorter.tolist())


def test_the_seed_itself_is_not_in_the_proof(small_task, tmp_path):
    task = small_task.replace(epochs=1)
    first, other = (pk.prove(task, seed=s, out=tmp_path / f"{s}", progress=False) for s in (271828182, 314159265))
    assert first.manifest["seed_commitment"] != other.manifest["seed_commitment"]
    assert b"271828182" not in b"".join(contents(first.folder).values())


def stop(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "change", [{"task": {"learning_rate": 0.1}}, {"conditions": {"precision": "float64"}}], ids=["task", "conditions"]
)
def test_progress_of_another_task_is_neither_resumed_nor_removed(small_task, tmp_path, monkeypatch, change):
    with monkeypatch.context() as patched:
        patched.setattr("polkit.training.step.Learner.update", stop)
        with pytest.raises(KeyboardInterrupt):
            pk.prove(small_task, out=tmp_path / "proof", progress=False)
    before = contents(tmp_path)
    task = small_task.replace(**change.get("task", {}))
    conditions = pk.Conditions(**change.get("conditions", {}))
    with pytest.raises(FileExistsError, match="unfinished proof of other settings"):
        pk.prove(task, out=tmp_path / "proof", conditions=conditions, progress=False)
    assert contents(tmp_path) == before


def test_a_finished_proof_of_another_task_stays_as_it_is(small_proof, small_task):
    before = contents(small_proof.folder.parent)
    with pytest.raises(FileExistsError, match="another task or seed"):
        pk.prove(small_task.replace(weight_decay=0.0), seed=0, out=small_proof.folder, progress=False)
    assert pk.prove(small_task, seed=0, out=small_proof.folder, progress=False) == small_proof
    assert contents(small_proof.folder.parent) == before


def test_the_advice_to_remove_an_unfinished_proof_is_enough(small_task, tmp_path, monkeypatch):
    task, out = small_task.replace(epochs=1), tmp_path / "proof"
    for seed, place in ((0, "captured.update"), (1, "prover.initial_checkpoint")):
        with monkeypatch.context() as patched:
            patched.setattr(f"polkit.{place}", stop)
            with pytest.raises(KeyboardInterrupt):
                pk.prove(task, seed=seed, out=out, progress=False)
        if seed == 0:
            shutil.rmtree(tmp_path / "proof.partial")  # as the message of a FileExistsError says
    assert pk.prove(task, seed=1, out=out, progress=False).steps == 4
