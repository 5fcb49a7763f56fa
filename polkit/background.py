"""Work that nobody has to wait for: calls made later, in their order, by a thread of their own."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event


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
