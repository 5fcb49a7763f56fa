"""The debate between the papers as switches: who decides what, and which spoofs are left."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from polkit.book.figures.defences import standing_figure
from polkit.book.figures.drawing import Figure
from polkit.book.panels.parts import Panel
from polkit.book.panels.sliders import chooser
from polkit.experiments.matrix import CORRECTED, accepted_by_all

DATED = "before the model"


@dataclass(frozen=True)
class Switch:
    """One question of the debate. options: answer -> the verifiers of the matrix that it puts in force."""

    question: str
    name: str
    options: Mapping[str, tuple[str, ...]]


SWITCHES = (
    Switch("η chosen by", "rate", {"the prover": (), "the verifier": ("η decided by the verifier",)}),
    Switch("augmentation", "augmentation", {"redrawn": (), "recorded": ("augmentation recorded",)}),
    Switch(
        "compared",
        "state",
        {"weights": (), "and buffers": ("buffers compared",), "and momentum": ("buffers compared", "momentum chained")},
    ),
    Switch(
        "intervals",
        "intervals",
        {"largest": (), "half, at random": ("half of them at random",), "all": ("every interval",)},
    ),
    Switch("data", "data", {"as handed in": (), "under a root": ("data committed",)}),
    Switch("start", "start", {"the prover's": (), "from a seed": ("start from the seed",)}),
    Switch("last model", "model", {"any": (), "the disputed": ("ends at the model",)}),
    Switch("dated", "date", {"never": (), DATED: ()}),
)


def verifiers_of(answers: Mapping[str, str]) -> list[str]:
    """The verifiers of the matrix that these answers (name of a switch -> answer) put in force together."""
    chosen = [CORRECTED]
    for switch in SWITCHES:
        chosen += switch.options[answers[switch.name]]
    if "augmentation recorded" in chosen and "momentum chained" in chosen:
        # With the augmentation recorded, momentum and buffers are held to the small δ too.
        chosen = [name for name in chosen if name not in ("buffers compared", "momentum chained")]
        chosen.append("recorded, state chained")
    return chosen


def debate_panel(trainings: pd.DataFrame, costs: pd.DataFrame, **look) -> Panel:
    """Every switch at once: in how many trainings each folder is accepted by all verifiers that are in force.

    trainings, costs: `matrix_trainings` and `matrix_costs` of the published matrix; look: as `Panel` takes it
    """
    repeats = trainings["seed"].nunique()
    shares = costs.set_index("folder")["floating_point_operations"]
    buttons = {switch.name: chooser(switch.name, switch.options, label=switch.question) for switch in SWITCHES}

    def draw(_: None, **answers: str) -> Figure:
        counts = accepted_by_all(trainings, verifiers_of(answers))
        if answers["date"] == DATED:  # by definition, not by a run: what was made after the theft has a later date
            counts = counts.where(counts.index == counts.index[0], 0)
        return standing_figure(counts, repeats, shares)

    return Panel("debate", buttons, draw, **look)
