"""Algorithm 1: what a proof records, where it stops, and how it goes on."""

import json
import math
import os
import shutil
import time

import numpy as np
import pytest
import torch

import polkit as pk
from polkit.__main__ import main
from polkit.defences.exact import prove_exactly
from polkit.proof import ProofError, checkpoint_name, checkpoint_steps, fresh_folder, read_checkpoint
from polkit.proof.folder import seed_commitment
from polkit.proof.storage import partial_path
from polkit.prover import Diverged, Journal, cached_proof, train
from polkit.training import Learner, applied, augmentation_order, batch_order
from tests.pictures import draw_pictures


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def unfinished(task, folder, monkeypatch, done=10):
    """What a prover killed after so many steps leaves."""
    real = Learner.update

    def update(*arguments, step, **named):
        if step == done:
            raise KeyboardInterrupt
        return real(*arguments, step=step, **named)

    with monkeypatch.context() as patched:
        patched.setattr(Learner, "update", update)
        with pytest.raises(KeyboardInterrupt):
            pk.prove(task, seed=0, out=folder, progress=False)
    return partial_path(folder)


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


def test_a_seed_is_a_whole_number_numpys_too(small_proof, small_calibration, small_task, tmp_path):
    same = pk.prove(small_task, np.int64(0), out=tmp_path / "same", progress=False)
    assert same.digest == small_proof.digest
    rest = (pk.Conditions(), pk.training_points(small_task))
    assert cached_proof(small_task, np.uint8(3), *rest) == cached_proof(small_task, 3, *rest)
    final, quiet = small_proof.final_weights(), {"progress": False}
    forged = [
        pk.interpolation_only(final, small_task, spoof_steps=steps, seed=seed, **quiet)
        for steps, seed in ((8, 1), (np.int64(8), np.int64(1)))
    ]
    assert forged[0].folder == forged[1].folder
    for ask in (
        lambda seed: pk.prove(small_task, seed, **quiet),
        lambda seed: pk.prove(small_task, seed, out=tmp_path / "wrong", **quiet),
        lambda seed: pk.prepare(small_task, seed, **quiet),
        lambda seed: pk.calibrate(small_proof, seed=seed, **quiet),
        lambda seed: pk.verify(small_proof, small_calibration, seed=seed),
        lambda seed: pk.interpolation_only(final, small_task, spoof_steps=8, seed=seed, **quiet),
        lambda seed: pk.retrain(small_task, seed, **quiet),
        lambda seed: pk.initial_checkpoint(small_task, seed),
        seed_commitment,
    ):
        for wrong in (1.0, "7", True, None, np.float32(1)):
            with pytest.raises(ValueError, match="seed must be a whole number, not"):
                ask(wrong)
    assert not (tmp_path / "wrong").exists()


def test_the_seed_decides_everything(small_proof, small_task, tmp_path):
    again = pk.prove(small_task, seed=0, out=tmp_path / "again", progress=False)
    other = pk.prove(small_task, seed=1, out=tmp_path / "other", progress=False)
    assert again.digest == small_proof.digest
    assert other.digest != small_proof.digest
    assert (other.batches() != small_proof.batches()).any()


def test_the_last_checkpoint_is_w_t_even_if_k_does_not_divide_t(small_task, tmp_path):
    proof = pk.prove(small_task.replace(checkpoint_interval=5), out=tmp_path / "odd", progress=False)
    assert proof.checkpoint_steps == [0, 5, 10, 15, 16]
    final = train(small_task, 0, pk.Conditions(), pk.training_points(small_task))
    assert set(pk.distances(proof.final_weights().weights, final.weights).values()) == {0.0}


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


OTHERS = {
    "another seed": {"seed": 1},
    "another task": {"learning_rate": 0.1},
    "other conditions": {"conditions": pk.Conditions(precision="float64")},
    "other versions": {},
}


def prove_other(what, task, out, monkeypatch):
    changes = dict(OTHERS[what])
    settings = {name: changes.pop(name) for name in ("seed", "conditions") if name in changes}
    if what == "other versions":
        monkeypatch.setattr("polkit.prover.versions", lambda: {"torch": "0.4"})
    pk.prove(task.replace(**changes), out=out, progress=False, **settings)


@pytest.mark.parametrize("what", OTHERS)
def test_an_unfinished_proof_of_other_settings_is_neither_resumed_nor_removed(small_task, tmp_path, monkeypatch, what):
    unfinished(small_task, tmp_path / "proof", monkeypatch)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="unfinished proof of other settings"):
        prove_other(what, small_task, tmp_path / "proof", monkeypatch)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("what", [what for what in OTHERS if what != "other versions"])
def test_a_finished_proof_is_returned_and_another_is_not_overwritten(small_proof, small_task, monkeypatch, what):
    before = contents(small_proof.folder.parent)
    with pytest.raises(FileExistsError, match="holds the proof of another task or seed, or of other conditions"):
        prove_other(what, small_task, small_proof.folder, monkeypatch)
    assert pk.prove(small_task, seed=0, out=small_proof.folder, progress=False) == small_proof
    assert contents(small_proof.folder.parent) == before


def test_a_prover_killed_before_it_could_tidy_up_is_done(small_task, small_proof, copied):
    journal = copied.folder.with_name(copied.folder.name + ".progress.jsonl")
    journal.touch()
    assert pk.prove(small_task, seed=0, out=copied.folder, progress=False).digest == small_proof.digest
    assert not journal.exists()


def stop(*_):
    raise KeyboardInterrupt


def test_the_advice_to_remove_an_unfinished_proof_is_enough(small_task, tmp_path, monkeypatch):
    task, out = small_task.replace(epochs=1), tmp_path / "proof"
    shutil.rmtree(unfinished(task, out, monkeypatch, done=2))  # as the message of a FileExistsError says
    with monkeypatch.context() as patched:
        patched.setattr("polkit.prover.initial_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            pk.prove(task, seed=1, out=out, progress=False)
    assert pk.prove(task, seed=1, out=out, progress=False).steps == 4


def diverging_at(step, monkeypatch, what):
    """From this step on, training is not finite."""
    real = Learner.update

    def update(learner, batch, *, step: int, augmentation_seed):
        loss = real(learner, batch, step=step, augmentation_seed=augmentation_seed)
        if step == at and what == "loss":
            return loss * math.nan
        if step == at:
            next(iter(learner.model.parameters())).data.fill_(math.inf)
        return loss

    at = step
    monkeypatch.setattr(Learner, "update", update)


def test_a_huge_learning_rate_stops_the_proof_with_its_step(small_task, tmp_path):
    """The first loss that is not finite, or checkpoint if that comes first, by plain steps that look every time."""
    task = small_task.replace(learning_rate=1e6)
    with pytest.raises(Diverged) as stopped:
        pk.prove(task, seed=0, out=tmp_path / "proof", progress=False)
    points, batches, seeds = pk.training_points(task), batch_order(task, 0), augmentation_order
    learner = Learner(task, pk.Conditions())
    learner.load(pk.initial_checkpoint(task, 0))
    with applied(pk.Conditions()):
        for first in range(task.steps):
            loss = learner.update(
                points.take(batches[first]), step=first, augmentation_seed=int(seeds(0, task.steps)[first])
            )
            state = [*learner.model.parameters(), *learner.model.buffers()]
            due = (first + 1) % task.checkpoint_interval == 0
            if not math.isfinite(loss) or (due and not all(bool(value.isfinite().all()) for value in state)):
                break
    assert f"diverged at step {first} of 16, with a learning rate of 1e+06" in str(stopped.value)
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize(
    ("step", "what", "named"),
    # An update that is not finite shows in the next loss, or in the checkpoint if that comes first.
    [
        (0, "loss", 0),
        (3, "loss", 3),
        (9, "loss", 9),
        (0, "state", 1),
        (3, "state", 3),
        (4, "state", 5),
        (15, "state", 15),
    ],
)
def test_the_step_that_is_named_is_the_one_and_nothing_after_it_is_kept(
    small_task, tmp_path, monkeypatch, step, what, named
):
    diverging_at(step, monkeypatch, what)
    with pytest.raises(Diverged, match=rf"diverged at step {named} of 16, with a learning rate of 0.0"):
        pk.prove(small_task, seed=0, out=tmp_path / "proof", progress=False)
    kept = sorted((tmp_path / "proof.partial" / "checkpoints").iterdir())
    assert [int(file.stem) for file in kept] == [*range(0, step + 1, 4)]
    assert all(read_checkpoint(file, small_task).is_finite() for file in kept)


def test_a_reference_that_diverges_gives_no_calibration(small_proof, tmp_path, monkeypatch):
    diverging_at(9, monkeypatch, "loss")
    with pytest.raises(Diverged, match="at step 9"):
        pk.calibrate(small_proof, replays=2, workers=1, out=tmp_path / "c.json", progress=False)
    assert not (tmp_path / "c.json").exists()


def test_the_loss_is_looked_at_only_where_a_checkpoint_is_due(small_task, tmp_path, monkeypatch):
    """Each look would make a GPU wait."""
    real, taken, looks = Learner.update, [], []

    class Loss:
        def __float__(self):
            looks.append(len(taken))
            return 0.0

    def update(*arguments, step, **named):
        real(*arguments, step=step, **named)
        taken.append(step)
        return Loss()

    monkeypatch.setattr(Learner, "update", update)
    pk.prove(small_task, seed=0, out=tmp_path / "proof", progress=False)
    assert looks == [4] * 4 + [8] * 4 + [12] * 4 + [16] * 4


def test_prove_that_diverges_is_one_sentence_and_status_1(tmp_path, monkeypatch, capsys):
    diverging_at(5, monkeypatch, "loss")
    arguments = ["prove", "--epochs", "1", "--checkpoint-interval", "4", "--out", str(tmp_path / "proof")]
    assert main(arguments) == 1
    told = capsys.readouterr().err.splitlines()
    assert "diverged at step 5 of 22, with a learning rate of 0.05" in told[-1]
    assert told[-1].startswith("polkit: ")


@pytest.mark.parametrize("ruin", ["emptied", "zeroed", "gone", "journal cut", "journal torn", "journal empty", "stray"])
def test_what_a_loss_of_power_ruins_is_trained_again(small_task, small_proof, tmp_path, monkeypatch, ruin):
    partial = unfinished(small_task, tmp_path / "proof", monkeypatch)
    journal, middle = tmp_path / "proof.progress.jsonl", partial / checkpoint_name(4)
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 3  # W_0, W_4, W_8
    first = {"emptied": 4, "zeroed": 4, "gone": 4, "journal cut": 8, "journal torn": 8, "journal empty": 0, "stray": 8}
    if ruin == "emptied":
        middle.write_bytes(b"")
    elif ruin == "zeroed":
        middle.write_bytes(middle.read_bytes()[:-4096] + bytes(4096))
    elif ruin == "gone":
        middle.unlink()
    elif ruin == "journal cut":
        journal.write_text("".join(lines[:-1]))
    elif ruin == "journal torn":
        journal.write_text("".join(lines)[:-20])
    elif ruin == "journal empty":
        journal.write_text("")
    else:
        (partial / "checkpoints" / ".tmp6q9GPv").write_bytes(b"half")  # safetensors 0.8, killed
    told = []
    proof = pk.prove(small_task, seed=0, out=tmp_path / "proof", progress=lambda *now: told.append(now[0]))
    expected = {"journal cut": 4, "journal torn": 4, "emptied": 0, "zeroed": 0, "gone": 0}.get(ruin, first[ruin])
    assert told[0] == expected
    assert contents(proof.folder) == contents(small_proof.folder)
    assert {file.name for file in tmp_path.iterdir()} == {"proof", "proof.record.json"}


def test_a_resumed_proof_counts_no_second_twice(small_task, tmp_path, monkeypatch):
    begun = time.perf_counter()
    unfinished(small_task, tmp_path / "proof", monkeypatch)
    lines = (tmp_path / "proof.progress.jsonl").read_text().splitlines()
    before = json.loads(lines[-1])["wall_seconds"]
    proof = pk.prove(small_task, seed=0, out=tmp_path / "proof", progress=False)
    assert before < proof.cost().wall_seconds <= time.perf_counter() - begun
    assert proof.cost().gradient_evaluations == small_task.steps


def test_a_folder_that_only_looks_like_an_unfinished_proof_is_not_removed(small_task, small_proof, tmp_path):
    thesis = tmp_path / "precious.partial" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("mine")
    how = {"out": tmp_path / "precious", "progress": False}
    refused = "unfinished proof or other files: choose another folder"
    with pytest.raises(FileExistsError, match=refused):
        pk.prove(small_task, seed=0, **how)
    with pytest.raises(FileExistsError, match=refused):
        pk.interpolation_only(small_proof.final_weights(), small_task, spoof_steps=4, **how)
    assert thesis.read_text() == "mine"


def test_a_spoof_does_not_remove_an_unfinished_proof(small_task, small_proof, tmp_path, monkeypatch):
    unfinished(small_task, tmp_path / "proof", monkeypatch)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="holds an unfinished proof"):
        pk.interpolation_only(
            small_proof.final_weights(), small_task, spoof_steps=4, out=tmp_path / "proof", progress=False
        )
    assert contents(tmp_path) == before


def test_a_proof_never_goes_on_from_somebody_elses_checkpoints(small_task, small_proof, tmp_path, monkeypatch):
    partial = unfinished(small_task, tmp_path / "proof", monkeypatch)
    shutil.rmtree(partial)  # the journal stays; a spoof is begun there, and killed
    other = pk.prove(small_task, seed=9, out=tmp_path / "other", progress=False)
    shutil.copytree(other.folder / "checkpoints", partial / "checkpoints")
    assert contents(pk.prove(small_task, seed=0, out=tmp_path / "proof", progress=False).folder) == contents(
        small_proof.folder
    )


def test_a_proof_is_on_the_disk_before_it_is_called_one(small_task, tmp_path, monkeypatch):
    synced, moved, real_sync, real_move = [], [], os.fsync, os.replace

    def fsync(descriptor):
        synced.append(os.path.realpath(f"/dev/fd/{descriptor}"))
        real_sync(descriptor)

    def replace(source, target):
        moved.append((str(target), list(synced)))
        real_move(source, target)

    monkeypatch.setattr("polkit.proof.storage.os.fsync", fsync)
    monkeypatch.setattr("os.replace", replace)
    proof = pk.prove(small_task, seed=0, out=tmp_path / "proof", progress=False)
    partial = os.path.realpath(tmp_path) + "/proof.partial"
    before = dict(moved)[f"{tmp_path}/proof.partial/manifest.json"]
    wanted = [checkpoint_name(step) for step in checkpoint_steps(proof.steps, 4)] + ["batches.npy", "signatures.npy"]
    assert {f"{partial}/{name}" for name in [*wanted, "augmentation.npy", "checkpoints"]} <= set(before)
    last = dict(moved)[f"{tmp_path}/proof"]
    assert last.count(partial) > before.count(partial)  # the manifest's own name
    assert os.path.realpath(tmp_path) in synced[len(last) :]  # and the proof's


def test_the_journal_of_other_settings_is_refused_and_fresh_folders_spare_it(tmp_path):
    journal = Journal(tmp_path / "proof", {"seed": 0})
    journal.begin()
    with pytest.raises(FileExistsError):
        Journal(tmp_path / "proof", {"seed": 1}).resume([0])
    with pytest.raises(FileExistsError):
        fresh_folder(tmp_path / "proof")
    assert journal.resume([0]) == (None, 0.0)


def swap_two_labels(tmp_path):
    ant, bee, aside = (tmp_path / "images" / "train" / name for name in ("ant/0.png", "bee/0.png", "aside"))
    ant.rename(aside), bee.rename(ant), aside.rename(bee)


def go_elsewhere(tmp_path):
    draw_pictures(tmp_path / "elsewhere" / "images", first=2)
    os.chdir(tmp_path / "elsewhere")


OTHER_PICTURES = {
    "pictures replaced": lambda tmp_path: draw_pictures(tmp_path / "images", first=1),
    "one picture replaced": lambda tmp_path: draw_pictures(tmp_path / "images", count=1, first=1),
    "two labels swapped": swap_two_labels,
    "a folder of that name elsewhere": go_elsewhere,
}


@pytest.mark.parametrize("change", OTHER_PICTURES)
def test_other_pictures_of_the_same_name_make_another_proof(picture_task, tmp_path, monkeypatch, change):
    first, out = pk.prove(picture_task, progress=False), tmp_path / "out"
    pk.prove(picture_task, out=out, progress=False)
    unfinished(picture_task, tmp_path / "begun", monkeypatch, done=1)
    assert pk.prove(picture_task, out=out, progress=False).digest == first.digest
    OTHER_PICTURES[change](tmp_path)
    other, before = pk.prove(picture_task, progress=False), contents(out)
    assert (other.folder != first.folder, other.digest != first.digest) == (True, True)
    assert torch.equal(other.points().images, pk.training_points(picture_task).images)
    with pytest.raises(FileExistsError, match="out holds a proof of other images than folder:images has now: ") as said:
        pk.prove(picture_task, out=out, progress=False)
    assert (str(said.value).count("\n"), contents(out)) == (0, before)
    with pytest.raises(FileExistsError, match="unfinished proof of other settings"):
        pk.prove(picture_task, out=tmp_path / "begun", progress=False)


MADE = {
    "retraining": lambda task, final: pk.retrain(task, 0, progress=False),
    "a straight path": lambda task, final: pk.interpolation_only(final, task, spoof_steps=2, progress=False),
    "an exact proof": lambda task, final: prove_exactly(task),
}


@pytest.mark.parametrize("made", MADE)
def test_other_pictures_of_the_same_name_make_another_spoof(picture_task, tmp_path, made):
    final = pk.prove(picture_task, progress=False).final_weights()
    first = MADE[made](picture_task, final)
    draw_pictures(tmp_path / "images", first=1)
    assert MADE[made](picture_task, final).points().images.ne(first.points().images).any()


def test_other_files_of_a_named_data_set_make_another_proof(picture_task, tmp_path, monkeypatch):
    monkeypatch.setenv("POLKIT_DATA", str(tmp_path))
    task = picture_task.replace(data="cifar10", image_shape=(3, 32, 32), classes=256)
    found, out = [], tmp_path / "out"
    (tmp_path / "cifar-10-batches-bin").mkdir()
    for seed in range(2):
        for number in range(1, 6):
            records = np.random.default_rng([seed, number]).integers(0, 256, (2, 3073), dtype=np.uint8)
            records.tofile(tmp_path / "cifar-10-batches-bin" / f"data_batch_{number}.bin")
        found.append(pk.prove(task, progress=False).digest)
        if not seed:
            pk.prove(task, out=out, progress=False)
    assert found[0] != found[1]
    with pytest.raises(FileExistsError, match="other images than cifar10 has now"):
        pk.prove(task, out=out, progress=False)


@pytest.mark.parametrize("name", ["manifest.json", "batches.npy", "signatures.npy"])
def test_a_damaged_proof_in_the_cache_is_named_with_what_to_do(name, small_task, small_proof, tmp_path, monkeypatch):
    monkeypatch.setenv("POLKIT_HOME", str(tmp_path))
    kept = cached_proof(small_task, 0, pk.Conditions(), pk.training_points(small_task))
    shutil.copytree(small_proof.folder, kept)
    (kept / name).write_bytes((kept / name).read_bytes()[:-1])
    with pytest.raises(ProofError, match=rf"{kept} cannot be used \({name} .*\): remove it, or"):
        pk.prove(small_task, 0, progress=False)
