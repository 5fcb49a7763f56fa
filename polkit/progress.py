"""How a long computation tells how far it is, and how it is stopped from outside."""

from collections.abc import Callable, Iterable, Iterator

from tqdm import tqdm

# True: a bar on stderr · False: nothing · a function: told (done, total) before each item and after the last.
Progress = bool | Callable[[int, int], None]


class Cancelled(Exception):
    """Raised by a progress function to stop the computation that calls it."""


def reported(items: Iterable, *, total: int, title: str, progress: Progress, unit: str = "it",
             initial: int = 0) -> Iterator:  # fmt: skip
    """The items, one by one, while `progress` is told how many of `total` are done."""
    if not callable(progress):
        yield from tqdm(items, initial=initial, total=total, desc=title, unit=unit, leave=False,
                        disable=not progress, mininterval=0.5)  # fmt: skip
        return
    done = initial
    progress(done, total)
    for item in items:
        yield item
        done += 1
        progress(done, total)
