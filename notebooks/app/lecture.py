"""What `make app` serves to a lecture hall: the window, the verifier and the debate, large enough for the back row."""

from collections.abc import Callable
from functools import partial

from screens import add_folder, enlarged, explorer_panel, window_panel
from waiting import Stage, in_turn

import polkit as pk
from polkit.book.panels.debate import debate_panel
from polkit.book.panels.parts import Panel, View
from polkit.book.panels.verdicts import Judged
from polkit.experiments.published import published
from polkit.proof.folder import Proof
from polkit.training.jobs import Progress
from polkit.training.task import Task
from polkit.verifier.calibration import Calibration
from polkit.verifier.verdict import verify

SPOOFS = {  # name -> the attack, and T' in intervals; the slowest last
    "interpolation only": (pk.interpolation_only, 14),
    "borrowed momentum": (pk.borrowed_momentum, 4),
    "Attack II": (partial(pk.attack_2, iterations=4, workers=2), 14),  # as in chapter 8
}


def window_screen() -> Panel:
    """The spoofing window over the published runs of `digits`."""
    runs, paths = published("digits/runs"), published("digits/paths")
    return window_panel(runs, paths, interval=pk.task("digits").checkpoint_interval)


def debate_screen() -> Panel:
    """The published matrix of spoofs and defences as switches."""
    return debate_panel(published("digits/matrix_trainings"), published("digits/matrix_costs"), enlarged=enlarged)


def explorer_screen(task: Task | None = None, workers: int = 2) -> View:
    """An honest proof and three spoofs of its model, every interval replayed, against a δ that can be moved.

    task: default, `digits`. What the cache does not hold is made in the background, one after the other; each joins
    the panel when it has been judged. Raises RuntimeError outside an event loop, see `in_turn`.
    """
    task = task or pk.task("digits")
    state: dict = {}

    def prepare(progress: Progress) -> tuple[Proof, Calibration]:
        return pk.prepare(task, 0, workers=workers, progress=progress)

    def keep(prepared: tuple[Proof, Calibration]) -> None:
        state["proof"], state["calibration"] = prepared

    def judge(proof: Proof, progress: Progress) -> Judged:
        verdict = verify(proof, state["calibration"], top_q="all", workers=workers, remember=True, progress=progress)
        return Judged(proof, verdict, state["calibration"])

    def open_panel(honest: Judged) -> Panel:
        state["panel"] = explorer_panel({"honest proof": honest})
        return state["panel"]

    def forge(name: str) -> Callable[[Progress], Judged]:
        attack, intervals = SPOOFS[name]

        def compute(progress: Progress) -> Judged:
            given = {"calibration": state["calibration"]} if name == "Attack II" else {}
            steps = intervals * task.checkpoint_interval
            final = state["proof"].final_weights()
            spoof = attack(final, task, spoof_steps=steps, seed=1, progress=progress, **given)
            return judge(spoof, progress)

        return compute

    stages = [
        Stage("an honest training with its proof, and δ", prepare, keep),
        Stage("the verdict on every interval of the proof", lambda told: judge(state["proof"], told), open_panel),
    ]
    for name in SPOOFS:
        stages.append(Stage(name, forge(name), lambda judged, name=name: add_folder(state["panel"], name, judged)))
    return in_turn("explorer", stages)
