"""How a long computation tells how far it is, and how it is stopped from outside."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from tqdm import tqdm

# True: a bar on stderr · False: nothing · a function: told (done, total) before each item and after the last.
Progress = bool | Callable[[int, int], None]


class Cancelled(Exception):
    """Raised by a progress function to stop the computation that calls it."""


def reported(
    items: Iterable, *, total: int, title: str, progress: Progress, unit: str = "it", initial: int = 0
) -> Iterator:
    """The items, one by one, while `progress` is told how many of `total` are done."""
    if not callable(progress):
        yield from tqdm(
            items,
            initial=initial,
            total=total,
            desc=title,
            unit=unit,
            leave=False,
            disable=not progress,
            mininterval=0.5,
        )
        return
    done = initial
    progress(done, total)
    for item in items:
        yield item
        done += 1
        progress(done, total)


@contextmanager
def in_background(work: Callable[..., None], ahead: int = 2) -> Iterator[Callable[..., None]]:
    """Gives a function that hands its arguments to `work` in another thread, and returns at once.

    At most `ahead` calls wait; with more to do the caller waits too, so that memory stays bounded. The first error of
    `work` ends it: no later call is made, and the error is raised at one of the next calls, or where the block ends.
    Whatever was handed over before the block is left, even by an error of its own, is done first.
    """
    failed, waiting = Event(), deque[Future]()

    def call(*arguments) -> None:
        if failed.is_set():
            return
        try:
            work(*arguments)
        except BaseException:
            failed.set()
            raise

    def later(*arguments) -> None:
        while waiting and (len(waiting) >= ahead or waiting[0].done()):
            waiting.popleft().result()
        waiting.append(thread.submit(call, *arguments))

    with ThreadPoolExecutor(1) as thread:
        yield later
        for future in waiting:
            future.result()


JOBS_FOR_PROCESSES = 10


def run_jobs(jobs: Sequence[tuple], workers: int, title: str, progress: Progress, *, threads: bool = False) -> Iterator:
    """The result of each job (function, arguments), in the jobs' order, with a progress bar.

    Few jobs share threads, since torch lets go of the interpreter while it computes: on `digits` two threads do 1.6
    times the steps of one. Two processes do 1.9 times as many, but take 5 s to start. threads: never start processes;
    for a job that sends its result back whole, as a forged interval does, they are no faster. Settings that are the
    process's own (`applied`) must be the same for all jobs, and be in force around them: a thread that ends takes back
    its own.
    """
    if workers > 1 and len(jobs) > 1:
        import joblib  # takes 0.03 s to import

        backend = "threading" if threads or len(jobs) < JOBS_FOR_PROCESSES else "loky"
        parallel = joblib.Parallel(n_jobs=min(workers, len(jobs)), backend=backend, return_as="generator")
        results = parallel(joblib.delayed(function)(*arguments) for function, arguments in jobs)
    else:
        results = (function(*arguments) for function, arguments in jobs)
    yield from reported(results, total=len(jobs), title=title, progress=progress)
