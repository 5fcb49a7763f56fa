"""Long computations: how far they are, how they are stopped from outside, and who shares their work."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from tqdm import tqdm

# True: a bar on stderr. False: nothing. A function: told (done, total) before each item and after the last.
Progress = bool | Callable[[int, int], None]
JOBS_FOR_PROCESSES = 10  # fewer are done before processes have started


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


@contextmanager
def in_background(work: Callable[..., None], ahead: int = 2) -> Iterator[Callable[..., None]]:
    """Gives a function that hands its arguments to `work` in another thread, and returns at once.

    ahead: calls that may wait; with more to do the caller waits too, so that memory stays bounded
    After an error of `work` later calls do nothing; it is raised at one of the next calls or where the block ends.
    All that was handed over before the block is left, even by an error of its own, is done first.
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


def run_jobs(jobs: Sequence[tuple], workers: int, title: str, progress: Progress, *, threads: bool = False) -> Iterator:
    """The result of each job, in the jobs' order.

    jobs: (function, arguments) each, all under the same `applied`, which must be in force around them
    workers: threads if jobs are few, since processes take seconds to start; otherwise processes, which share nothing
    threads: never start processes, as for jobs whose results are large
    """
    if workers > 1 and len(jobs) > 1:
        import joblib  # only here: not every run has workers

        backend = "threading" if threads or len(jobs) < JOBS_FOR_PROCESSES else "loky"
        parallel = joblib.Parallel(n_jobs=min(workers, len(jobs)), backend=backend, return_as="generator")
        results = parallel(joblib.delayed(function)(*arguments) for function, arguments in jobs)
    else:
        results = (function(*arguments) for function, arguments in jobs)
    yield from reported(results, total=len(jobs), title=title, progress=progress)
