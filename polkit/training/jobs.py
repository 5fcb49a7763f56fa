"""Long computations: how far they are, how they are stopped from outside, and who shares their work."""

import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from threading import Event, RLock, local

from tqdm import tqdm

from polkit.training.task import whole

# True: a bar on stderr. False: nothing. A function: told (done, total) before each item and after the last.
Progress = bool | Callable[[int, int], None]
JOBS_FOR_PROCESSES = 12  # fewer are done by threads before processes have imported torch, which takes each core seconds


class Cancelled(Exception):
    """Raised by a progress function to stop the computation that calls it."""


def reported(
    items: Iterable, *, total: int, title: str, progress: Progress, unit: str = "it", initial: int = 0
) -> Iterator:
    """The items, one by one, while `progress` is told how many of `total` are done, counted from `initial`."""
    if not callable(progress):
        bar = {"desc": title, "unit": unit, "initial": initial, "total": total, "mininterval": 0.5}
        yield from tqdm(items, **bar, leave=False, disable=not progress)
        return
    progress(initial, total)
    for done, item in enumerate(items, initial + 1):
        yield item
        progress(done, total)


_here = local()  # _here.left: of a job's thread, whether nobody waits for its results any more


def stop_if_left() -> None:
    """Raises Cancelled in a thread of `run_jobs` whose results nobody waits for any more; every step asks."""
    if (left := getattr(_here, "left", None)) and left.is_set():
        raise Cancelled


@contextmanager
def in_background(work: Callable[..., None]) -> Iterator[Callable[..., None]]:
    """Gives a function that hands its arguments to `work` in another thread, and waits only while two calls do.

    Its error is raised at one of the next calls or where the block ends; all that was handed over is done first.
    """
    waiting = deque[Future]()

    def later(*arguments) -> None:
        while waiting and (len(waiting) >= 2 or waiting[0].done()):
            waiting.popleft().result()
        waiting.append(thread.submit(work, *arguments))

    with ThreadPoolExecutor(1) as thread:
        yield later
        for future in waiting:
            future.result()


@contextmanager
def starting_workers() -> Iterator[None]:
    """Hides a terminal's Ctrl-C, until the block ends, from processes that it starts: each would print a traceback."""
    if sys.platform == "win32":  # which has no such mask
        yield
        return
    resource_tracker.ensure_running()  # first, since at its start it would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_jobs(jobs: Sequence[tuple], workers: int, title: str, progress: Progress, *, threads: bool = False) -> Iterator:
    """The result of each job, in the jobs' order.

    jobs: (function, arguments) each, all under the same `applied`, which must be in force around them
    workers: threads if jobs are few, since processes take seconds to start; otherwise processes, which share nothing
    threads: never start processes, as for jobs whose results are large
    """
    whole("workers", workers, 1)
    if workers == 1 or len(jobs) < 2:
        results = (function(*arguments) for function, arguments in jobs)
    elif threads or len(jobs) < JOBS_FOR_PROCESSES:
        results = _in_threads(jobs, workers)
    else:
        results = in_processes(jobs, min(workers, len(jobs)))
    yield from reported(results, total=len(jobs), title=title, progress=progress)


def in_processes(jobs: Sequence[tuple], workers: int) -> Iterator:
    """The jobs begin at once. The processes wait some minutes for more, which then find their imports done."""
    import joblib  # only here: not every run has workers

    parallel = joblib.Parallel(workers, backend="loky", return_as="generator", initializer=_begin)
    with starting_workers():
        return parallel(joblib.delayed(function)(*arguments) for function, arguments in jobs)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited only by a process that the main thread starts
    tqdm.set_lock(RLock())  # its own is a semaphore, which a killed process leaves behind


def _in_threads(jobs: Sequence[tuple], workers: int) -> Iterator:
    """An error, or a caller who leaves early, ends the other threads at their next step: they hold their settings."""
    left = Event()
    with ThreadPoolExecutor(workers, initializer=setattr, initargs=(_here, "left", left)) as pool:
        try:
            waiting = deque(pool.submit(function, *arguments) for function, arguments in jobs)
            while waiting:
                yield waiting.popleft().result()
        finally:
            left.set()
            pool.shutdown(cancel_futures=True)
