"""What a proof of computation costs beside the computation."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from polkit.book.figures.drawing import BLACK, BLUE, GREEN, ORANGE, Figure, logarithmic, mark, spoken, styled
from polkit.experiments.proving_cost import WAYS, YEAR, seconds_per_operation


def proving_figure(steps: pd.DataFrame, operations: int, training_steps: int = 78_000) -> Figure:
    """Seconds over operations of one step: proved, both ways, and native; dotted lines go on with the measured slope.

    steps: the published "snark/steps" · operations: of one step of the training that the lines end at; T: of its steps.
    """
    plot, years = go.Figure(), []
    for freivalds, colour, symbol in ((False, ORANGE, "circle"), (True, BLUE, "diamond")):
        mine = steps[steps["freivalds"] == freivalds].sort_values("operations")
        plot.add_scatter(
            x=list(mine["operations"]),
            y=list(mine["prove_seconds"]),
            mode="markers",
            name=WAYS[freivalds],
            marker={"color": colour, "symbol": symbol, "size": 9},
        )
        largest, slope = mine.iloc[-1], seconds_per_operation(mine)
        onwards = np.geomspace(largest["operations"], operations, 40)
        seconds = largest["prove_seconds"] + slope * (onwards - largest["operations"])
        plot.add_scatter(
            x=list(onwards),
            y=list(seconds),
            mode="lines",
            showlegend=False,
            hoverinfo="skip",
            line={"color": colour, "dash": "dot"},
        )
        years.append(slope * operations * training_steps / YEAR)
    native = steps.groupby("operations", as_index=False)["native_seconds"].median()
    plot.add_scatter(
        x=list(native["operations"]),
        y=list(native["native_seconds"]),
        mode="lines+markers",
        name="the step itself, in torch",
        line={"color": GREEN},
        marker={"color": GREEN, "symbol": "square"},
    )
    styled(plot, "One step, computed and proved", "operations of the step", "seconds")
    logarithmic(logarithmic(plot), "x")
    mark(plot, operations, "ResNet-20, batch 128")
    plot.add_annotation(
        x=np.log10(operations),
        y=np.log10(seconds[-1]) - 1,
        text="extrapolated",
        showarrow=False,
        xanchor="right",
        yanchor="top",
        font={"color": BLACK},
    )
    times = (steps["prove_seconds"] / steps["native_seconds"]).median()
    said, *after = (spoken(float(f"{value:.2g}")) for value in (times, *years))
    return Figure(
        plot,
        f"Proving a step took about {said} times as long as computing it, for up to "
        f"{int(steps['operations'].max()):,} operations; carried on to {training_steps:,} steps of "
        f"{spoken(operations / 1e9)} thousand million, that is {after[0]} years, or {after[1]} with "
        "products checked at random points.",
    )
