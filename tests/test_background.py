import threading
import time

import pytest

import polkit as pk
from polkit.training.jobs import in_background


def test_calls_are_made_in_their_order_by_another_thread():
    done = []
    with in_background(lambda number: done.append((number, threading.get_ident())), ahead=2) as later:
        for number in range(20):
            later(number)
    assert [number for number, _ in done] == list(range(20))
    assert {thread for _, thread in done}.isdisjoint({threading.get_ident()})


def test_the_caller_waits_when_enough_calls_do():
    done, started = [], []
    release = threading.Event()

    def work(number):
        started.append(number)
        assert release.wait(10)
        done.append(number)

    with in_background(work, ahead=2) as later:
        begun = time.perf_counter()
        later(0), later(1)
        assert time.perf_counter() - begun < 5
        timer = threading.Timer(0.2, release.set)
        timer.start()
        later(2)  # waits for the first
        assert done[0] == 0
    assert done == [0, 1, 2]
    timer.join()


def test_an_error_of_the_work_surfaces_and_ends_it():
    done = []

    def work(number):
        if number == 3:
            raise OSError("the disk is full")
        done.append(number)

    def hand_over():
        with in_background(work, ahead=4) as later:
            for number in range(100):
                later(number)

    with pytest.raises(OSError, match="the disk is full"):
        hand_over()
    assert done == [0, 1, 2]


def test_an_error_of_the_last_call_surfaces_too():
    def work():
        time.sleep(0.05)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"), in_background(work) as later:
        later()


def test_what_was_handed_over_is_done_though_the_block_is_left_by_an_error():
    done = []

    def work(number):
        time.sleep(0.05)
        done.append(number)

    def interrupted():
        with in_background(work) as later:
            later(0), later(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == [0, 1]


def test_a_checkpoint_that_cannot_be_written_ends_the_proof_and_leaves_no_gap(small_task, tmp_path, monkeypatch):
    import polkit.prover as prover

    real = prover.write_checkpoint

    def write(folder, step, checkpoint):
        if step == 8:
            raise OSError("no space left on device")
        return real(folder, step, checkpoint)

    with monkeypatch.context() as patched:
        patched.setattr(prover, "write_checkpoint", write)
        with pytest.raises(OSError, match="no space left"):
            pk.prove(small_task, out=tmp_path / "proof", progress=False)
    written = sorted(int(file.stem) for file in (tmp_path / "proof.partial" / "checkpoints").glob("*.safetensors"))
    assert written == [0, 4]
    assert pk.prove(small_task, out=tmp_path / "proof", progress=False).checkpoint_steps == [0, 4, 8, 12, 16]
