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
    Widgets are made by the event loop of the caller alone: a page that has just been opened asks the kernel for all
    widgets at once, and a thread that made another one meanwhile would break that answer. So the caller must run in an
    event loop, as every cell of a notebook does. Raises RuntimeError otherwise.
    """
    loop = asyncio.get_running_loop()
    shown, status, error = w.VBox([]), w.HTML(), w.HTML()
    row, instead = Meter("done"), "A panel stands here that computes for a while: run the notebook to see it."
    box = View("waiting", [shown, error, status, row, Named()], instead)
    for widget, part in ((status, "status"), (error, "error"), (row, "row"), (box, f"waiting-{name}"), (box, "busy")):
        widget.add_class(f"polkit-{part}")

    def begin(number: int) -> None:
        stage = stages[number]
        count = f" ({number + 1} of {len(stages)})" if len(stages) > 1 else ""
        status.value = f"<div role='status'>Being made: {html.escape(stage.what)}{count} …</div>"
        row.restart()
        threading.Thread(target=work, args=(number,), daemon=True).start()

    def work(number: int) -> None:
        try:
            result = stages[number].compute(row.tell)
        except Exception as problem:  # in a thread, nobody else would say it
            loop.call_soon_threadsafe(end, stages[number].what, problem)
        else:
            loop.call_soon_threadsafe(arrive, number, result)

    def arrive(number: int, result: Any) -> None:
        try:
            if found := stages[number].ready(result):
                shown.children = [found]
        except Exception as problem:  # in a callback, nobody else would say it
            end(stages[number].what, problem)
            return
        if number + 1 < len(stages):
            begin(number + 1)
        else:
            end()

    def end(what: str = "", problem: Exception | None = None) -> None:
        if problem:
            error.value = said_wrong(problem, f"{what}: ")
        status.value = ""
        row.layout.display = "none"
        box.remove_class("polkit-busy")

    begin(0)
    return box
