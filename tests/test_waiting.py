"""A place for what takes a while: what it shows meanwhile, then, and when something goes wrong."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import ipywidgets as w
import pytest
from waiting import Stage, in_turn

from tests.drawn import busy, words


def part(shown, name):
    (found,) = [child for child in within(shown) if f"polkit-{name}" in getattr(child, "_dom_classes", ())]
    return found


def within(box):
    for child in box.children:
        yield child
        if hasattr(child, "children"):
            yield from within(child)


def said(shown, name):
    return words(part(shown, name))


def apart(function, *arguments):
    """What the function returns or raises in a thread of its own: the browser's tests leave a loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function, *arguments).result()


def watched(stages):
    """The place after all that it does in the background is done."""

    async def run():
        shown = in_turn("test", stages)
        async with asyncio.timeout(10):
            while busy(shown):
                await asyncio.sleep(0.002)
        return shown

    return apart(lambda: asyncio.run(run()))


def test_each_result_is_shown_as_soon_as_it_is_there_and_the_next_stage_says_how_far_it_is():
    seen, gate = [], threading.Event()
    first, second = w.HTML("first"), w.HTML("second")

    def halting(progress):
        progress(1, 4)
        assert gate.wait(5)
        return "two"

    async def run():
        shown = in_turn(
            "test",
            [
                Stage("the <first>", lambda progress: "one", lambda result: seen.append(result) or first),
                Stage("the second", halting, lambda result: seen.append(result) or second),
                Stage("the third", lambda progress: "three", seen.append),
            ],
        )
        assert said(shown, "status") == "Being made: the <first> (1 of 3) …"
        assert shown.children[0].children == ()
        async with asyncio.timeout(5):
            while not said(shown, "note"):
                await asyncio.sleep(0.002)
        assert (seen, shown.children[0].children) == (["one"], (first,))
        assert said(shown, "status") == "Being made: the second (2 of 3) …"
        bar = part(shown, "progress")
        assert (said(shown, "note"), bar.value, bar.max) == ("done: 1 of 4", 1, 4)
        gate.set()
        async with asyncio.timeout(5):
            while busy(shown):
                await asyncio.sleep(0.002)
        return shown

    shown = apart(lambda: asyncio.run(run()))
    assert seen == ["one", "two", "three"]
    assert shown.children[0].children == (second,), "a stage without a widget leaves what is shown"
    assert (said(shown, "status"), said(shown, "error"), part(shown, "row").layout.display) == ("", "", "none")


def test_widgets_are_made_in_the_event_loop_and_computed_outside():
    loops = []

    def compute(progress):
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()

    def ready(result):
        loops.append(asyncio.get_running_loop())

    watched([Stage("it", compute, ready)])
    assert len(loops) == 1


def failing(*_):
    raise OSError("the disk is <full>")


@pytest.mark.parametrize(("compute", "ready"), [(failing, lambda result: None), (lambda progress: 1, failing)])
def test_what_goes_wrong_is_said_with_the_stage_and_later_ones_are_not_begun(compute, ready):
    kept, later = w.HTML("kept"), []
    shown = watched(
        [
            Stage("the first", lambda progress: None, lambda result: kept),
            Stage("the second", compute, ready),
            Stage("the third", later.append, later.append),
        ]
    )
    assert said(shown, "error") == "the second: OSError: the disk is <full>"
    assert shown.children[0].children == (kept,)
    assert (later, said(shown, "status")) == ([], "")


def test_without_an_event_loop_it_says_so():
    with pytest.raises(RuntimeError, match="no running event loop"):
        apart(in_turn, "test", [Stage("it", lambda progress: None, lambda result: None)])
