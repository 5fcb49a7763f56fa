import random
import signal
import subprocess
import sys

import pytest

import polkit as pk

KILLED = """
import os, signal, sys
import polkit as pk
import polkit.prover as prover

count, real = int(sys.argv[2]), prover.update
def update(*arguments, **named):
    global count
    count -= 1
    if count < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **named)
prover.update = update
task = pk.task("digits").replace(train_size=256, epochs=4, checkpoint_interval=4)
pk.prove(task, seed=0, out=sys.argv[1], progress=False)
"""


def contents(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_proof_killed_at_random_steps_resumes_to_the_same_bytes(small_proof, small_task, tmp_path):
    generator = random.Random()
    for attempt in range(2):
        out, steps = tmp_path / f"killed-{attempt}", generator.randrange(16)
        stopped = subprocess.run([sys.executable, "-c", KILLED, str(out), str(steps)], check=False)
        assert stopped.returncode == -signal.SIGKILL
        assert not out.exists()
        resumed = pk.prove(small_task, seed=0, out=out, progress=False)
        assert contents(resumed.folder) == contents(small_proof.folder), f"killed after {steps} updates"
        assert sorted(file.name for file in tmp_path.glob(f"killed-{attempt}*")) == [
            out.name,
            f"{out.name}.record.json",
        ]


def test_a_resumed_proof_does_not_repeat_whole_intervals(small_task, tmp_path, monkeypatch):
    import polkit.prover as prover

    done, real = [], prover.update

    def update(*arguments, step, **named):
        if step == 10 and 10 not in done:
            done.append(step)
            raise KeyboardInterrupt
        done.append(step)
        return real(*arguments, step=step, **named)

    monkeypatch.setattr(prover, "update", update)
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
    with pytest.raises(FileExistsError, match="another task or seed"):
        pk.prove(small_task, seed=1, out=small_proof.folder, progress=False)


def test_an_unfinished_proof_of_other_settings_is_not_resumed(small_task, tmp_path, monkeypatch):
    import polkit.prover as prover

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(prover, "update", stop)
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
