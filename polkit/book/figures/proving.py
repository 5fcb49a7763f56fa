"""What a proof of computation costs beside the computation."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from polkit.book.figures.drawing import Figure, line, logarithmic, mark, points, spoken, styled
from polkit.book.figures.look import BLUE, GREEN, ORANGE
from polkit.experiments.proving_cost import WAYS, YEAR, seconds_per_operation

TRAINING_STEPS = 78_000  # T of the training that the lines end at: ResNet-20 in 200 epochs of CIFAR-10


def proving_figure(steps: pd.DataFrame, operations: int) -> Figure:
    """Seconds over operations of one step: proved, both ways, and native; dotted lines go on with the measured slope.

    steps: the published "snark/steps"
    operations: of one step of the training that the lines end at
    """
    plot, years = go.Figure(), []
    for freivalds, colour, symbol in ((False, ORANGE, "circle"), (True, BLUE, "diamond")):
        mine = steps[steps["freivalds"] == freivalds].sort_values("operations")
        points(plot, WAYS[freivalds], mine["operations"], mine["prove_seconds"], colour, symbol, 9)
        largest, slope = mine.iloc[-1], seconds_per_operation(mine)
        onwards = np.geomspace(largest["operations"], operations, 40)
        seconds = largest["prove_seconds"] + slope * (onwards - largest["operations"])
        line(plot, None, onwards, seconds, colour, "dot", showlegend=False, hoverinfo="skip")
        years.append(slope * operations * TRAINING_STEPS / YEAR)
    native = steps.groupby("operations")["native_seconds"].median()
    line(plot, "the step itself, in torch", native.index, native, GREEN, symbol="square", marker_size=6)
    styled(plot, "One step, computed and proved", "operations of the step", "seconds")
    logarithmic(logarithmic(plot), "x")
    mark(plot, operations, "ResNet-20, batch 128")
    place = {"x": np.log10(operations), "y": np.log10(seconds[-1]) - 1, "xanchor": "right", "yanchor": "top"}
    plot.add_annotation(text="extrapolated", showarrow=False, **place)
    times = (steps["prove_seconds"] / steps["native_seconds"]).median()
    said, *after = (spoken(float(f"{value:.2g}")) for value in (times, *years))
    return Figure(
        plot,
        f"Proving a step took about {said} times as long as computing it, for up to "
        f"{int(steps['operations'].max()):,} operations; carried on to {TRAINING_STEPS:,} steps of "
        f"{spoken(operations / 1e9)} thousand million, that is {after[0]} years, or {after[1]} with "
        "products checked at random points.",
    )
