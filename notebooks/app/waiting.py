"""A place for what takes a while: it says what is being computed and how far it is, then shows what came of it."""

import asyncio
import html
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as w

from polkit.book.panels.access import Named
from polkit.book.panels.parts import Meter, View, said_wrong
from polkit.training.jobs import Progress


@dataclass(frozen=True)
class Stage:
    """what: is being computed, in words · compute(progress): does it, in a thread · ready(result): the widget to show
    from then on, or None to leave what is shown; called where widgets may be made."""

    what: str
    compute: Callable[[Progress], Any]
    ready: Callable[[Any], w.Widget | None]


def in_turn(name: str, stages: Sequence[Stage]) -> View:
    """Works through the stages in the background, and shows what comes of each as soon as it is there.

    If one goes wrong, that is said in place, what the earlier ones gave stays, and the later ones are not begun.
    Raises RuntimeError outside an event loop; every cell of a notebook runs in one.
    """
    work = _Work(name, stages)
    work.begin(0)
    return work.box


class _Work:
    """Stages that run in a thread each. Widgets are made by the caller's event loop alone: a page that has just been
    opened asks the kernel for all widgets at once, and a thread that made one meanwhile would break that answer.
    """

    def __init__(self, name: str, stages: Sequence[Stage]) -> None:
        self.loop, self.stages = asyncio.get_running_loop(), stages
        self.shown, self.status, self.error, self.row = w.VBox([]), w.HTML(), w.HTML(), Meter("done")
        instead = "A panel stands here that computes for a while: run the notebook to see it."
        self.box = View("waiting", [self.shown, self.error, self.status, self.row, Named()], instead)
        parts = {"status": self.status, "error": self.error, "row": self.row, f"waiting-{name}": self.box}
        for part, widget in (*parts.items(), ("busy", self.box)):
            widget.add_class(f"polkit-{part}")

    def begin(self, number: int) -> None:
        count = f" ({number + 1} of {len(self.stages)})" if len(self.stages) > 1 else ""
        what = html.escape(self.stages[number].what)
        self.status.value = f"<div role='status'>Being made: {what}{count} …</div>"
        self.row.restart()
        threading.Thread(target=self.work, args=(number,), daemon=True).start()

    def work(self, number: int) -> None:
        try:
            result = self.stages[number].compute(self.row.tell)
        except Exception as problem:  # in a thread, nobody else would say it
            self.loop.call_soon_threadsafe(self.end, self.stages[number].what, problem)
        else:
            self.loop.call_soon_threadsafe(self.arrive, number, result)

    def arrive(self, number: int, result: Any) -> None:
        try:
            if found := self.stages[number].ready(result):
                self.shown.children = [found]
        except Exception as problem:  # in a callback, nobody else would say it
            self.end(self.stages[number].what, problem)
            return
        if number + 1 < len(self.stages):
            self.begin(number + 1)
        else:
            self.end()

    def end(self, what: str = "", problem: Exception | None = None) -> None:
        if problem:
            self.error.value = said_wrong(problem, f"{what}: ")
        self.status.value = ""
        self.row.layout.display = "none"
        self.box.remove_class("polkit-busy")
