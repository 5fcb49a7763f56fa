"""How long computations tell how far they are, stop when asked, and leave work to another thread."""

import os
import signal
import threading
import time
from _thread import interrupt_main
from concurrent.futures import ThreadPoolExecutor

import pytest
from joblib.externals.loky import get_reusable_executor
from tqdm import tqdm

import polkit as pk
from polkit.reproduce import reproduce
from polkit.training.jobs import (
    JOBS_FOR_PROCESSES,
    Cancelled,
    in_background,
    in_processes,
    reported,
    run_jobs,
    stop_if_left,
)


def test_a_function_is_told_before_the_first_item_and_after_the_last():
    told = []
    items = list(reported("ab", total=5, initial=3, title="", progress=lambda *now: told.append(now)))
    assert items == ["a", "b"]
    assert told == [(3, 5), (4, 5), (5, 5)]


def test_a_bar_goes_to_stderr_and_silence_nowhere(capsys):
    assert list(reported("ab", total=2, title="counting", progress=True)) == ["a", "b"]
    assert "counting" in capsys.readouterr().err
    assert list(reported("ab", total=2, title="counting", progress=False)) == ["a", "b"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("attack", [pk.attack_1, pk.attack_2, pk.attack_3, pk.interpolation_only])
def test_a_cancelled_attack_leaves_no_spoof_and_can_be_run_again(small_task, small_proof, tmp_path, attack):
    final, out = small_proof.final_weights(), tmp_path / "spoof"
    few = {} if attack is pk.interpolation_only else {"iterations": 1}

    def stop_halfway(done, total):
        if done >= total // 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        attack(final, small_task, spoof_steps=8, out=out, progress=stop_halfway, **few)
    assert not out.exists()
    told = []
    spoof = attack(final, small_task, spoof_steps=8, out=out, progress=lambda *now: told.append(now), **few)
    assert spoof.steps == 8
    done, total = zip(*told, strict=True)
    assert list(done) == sorted(done)
    assert (done[0], done[-1]) == (0, total[0])


def test_a_cancelled_proof_goes_on_where_it_stopped(small_task, small_proof, tmp_path):
    out, told = tmp_path / "proof", []

    def stop_at_ten(done, total):
        if done == 10:
            raise Cancelled

    with pytest.raises(Cancelled):
        pk.prove(small_task, seed=0, out=out, progress=stop_at_ten)
    proof = pk.prove(small_task, seed=0, out=out, progress=lambda *now: told.append(now))
    assert told[0] == (8, 16)
    assert proof.manifest["files"] == small_proof.manifest["files"]


def test_calls_are_made_in_their_order_by_another_thread():
    done = []
    with in_background(lambda number: done.append((number, threading.get_ident()))) as later:
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

    with in_background(work) as later:
        begun = time.perf_counter()
        later(0), later(1)
        assert time.perf_counter() - begun < 5
        timer = threading.Timer(0.2, release.set)
        timer.start()
        later(2)  # waits for the first
        assert done[0] == 0
    assert done == [0, 1, 2]
    timer.join()


def test_an_error_of_the_work_surfaces_at_a_later_call():
    done = []

    def work(number):
        if number == 3:
            raise OSError("the disk is full")
        done.append(number)

    def hand_over():
        with in_background(work) as later:
            for number in range(100):
                later(number)

    with pytest.raises(OSError, match="the disk is full"):
        hand_over()
    assert done[:3] == [0, 1, 2]
    assert 3 not in done
    assert len(done) < 20, "it went on although nothing could be written"


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


def test_a_checkpoint_that_cannot_be_written_ends_the_proof_which_goes_on_before_the_gap(
    small_task, tmp_path, monkeypatch
):
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
    assert written[:2] == [0, 4]
    assert 8 not in written
    assert pk.prove(small_task, out=tmp_path / "proof", progress=False).checkpoint_steps == [0, 4, 8, 12, 16]


def test_threads_end_at_their_next_step_when_nobody_waits_for_their_results_any_more():
    entered, ended, others = threading.Barrier(3), [], set(threading.enumerate())

    def stepping(number):
        try:
            entered.wait(5)
            while True:
                time.sleep(0.001)
                stop_if_left()
        finally:
            ended.append(number)

    def interrupted():
        entered.wait(5)
        interrupt_main()
        while True:
            time.sleep(0.001)
            stop_if_left()

    # A worker of --numprocesses ignores the signal, and would wait for ever.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(run_jobs([(stepping, (0,)), (stepping, (1,)), (interrupted, ())], 3, "", False, threads=True))
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(ended) == [0, 1]
    left = [each for each in set(threading.enumerate()) - others if each.name.startswith("ThreadPoolExecutor")]
    for thread in left:  # one that was being started as the signal came is not waited for, but ends as well
        thread.join(5)
    assert not [thread for thread in left if thread.is_alive()]


def test_many_jobs_are_shared_by_processes_and_few_by_threads_and_come_back_in_their_order():
    for count, here in ((JOBS_FOR_PROCESSES, False), (JOBS_FOR_PROCESSES - 1, True)):
        jobs = [(divmod, (number, 7)) for number in range(count - 1)]
        *found, process = run_jobs([*jobs, (os.getpid, ())], 2, "", False)
        assert found == [divmod(number, 7) for number in range(count - 1)]
        assert (process == os.getpid()) == here


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2", None])
def test_workers_are_a_whole_number_from_1_up_wherever_they_are_given(
    workers, small_proof, small_calibration, tmp_path
):
    final, task = small_proof.final_weights(), small_proof.task
    for begin in (
        lambda: list(run_jobs([], workers, "", False)),
        lambda: pk.verify(small_proof, small_calibration, workers=workers),
        lambda: pk.interpolation_only(final, task, spoof_steps=8, workers=workers, out=tmp_path / "x", progress=False),
        *(
            [lambda: pk.calibrate(small_proof, replays=2, workers=workers, progress=False)]
            if workers is not None
            else []
        ),
        *([lambda: reproduce(["table-2"], workers=workers, out=tmp_path, dry_run=True)] if workers is not None else []),
    ):
        with pytest.raises(ValueError, match=f"workers must be a whole number from 1 up, not {workers!r}"):
            begin()


def kind_of_lock(_):
    return type(tqdm.get_lock())


def test_a_process_that_is_killed_leaves_no_semaphore_behind():
    """Python would count it on stderr where the book ends: tqdm's own lock is one, whether a bar is shown or not."""
    get_reusable_executor().shutdown(wait=True)
    assert set(in_processes([(kind_of_lock, (0,))], 2)) == {type(threading.RLock())}


def test_ctrl_c_never_ends_the_processes_of_workers_by_itself():
    """Each would print a traceback, even while it is still importing; their parent ends them.

    Processes live on from one call to the next, so the first call is a thread's, as a panel's is.
    """
    before, jobs = signal.getsignal(signal.SIGINT), [(signal.getsignal, (signal.SIGINT,))] * JOBS_FOR_PROCESSES
    get_reusable_executor().shutdown(wait=True)  # those of the tests before
    with ThreadPoolExecutor(1) as thread:
        handlers = thread.submit(lambda: list(run_jobs(jobs, 2, "", False))).result()
    assert handlers == [signal.SIG_IGN] * JOBS_FOR_PROCESSES
    assert list(run_jobs(jobs, 2, "", False)) == handlers
    assert signal.getsignal(signal.SIGINT) == before
