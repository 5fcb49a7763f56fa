"""How the cost of each party grows: lines through the logarithms, with the slopes that were fitted."""

import pandas as pd
from plotly.subplots import make_subplots

from polkit.book.figures.drawing import COLOURS, DASHES, SHAPES, Figure, logarithmic, styled
from polkit.book.figures.results import NAMES, unique

SHOWN = {"floating_point_operations": "operations", "stored_bytes": "bytes", "wall_seconds": "seconds"}


def scaling_figure(table: pd.DataFrame, slopes: pd.DataFrame, variable: str) -> Figure:
    """Operations, bytes and seconds of each party over one variable (T, k, Q, T' or parameters), both logarithmic.

    table, slopes: growth.csv and growth_slopes.csv. A party that stores nothing has no line there.
    """
    plot = make_subplots(rows=1, cols=3, subplot_titles=list(SHOWN.values()), horizontal_spacing=0.09)
    rows, said = table[table["variable"] == variable], []
    for number, party in enumerate(unique(rows["party"])):
        mine = rows[rows["party"] == party].sort_values("value")
        for column, meter in enumerate(SHOWN, 1):
            drawn = mine[mine[meter] > 0]
            plot.add_scatter(
                x=list(drawn["value"]),
                y=list(drawn[meter]),
                name=NAMES.get(party, party),
                legendgroup=party,
                showlegend=column == 1,
                line={"color": COLOURS[number], "dash": DASHES[number]},
                marker={"symbol": SHAPES[number], "size": 7},
                row=1,
                col=column,
            )
        fitted = slopes[(slopes["variable"] == variable) & (slopes["party"] == party)]
        exponents = ", ".join(f"{SHOWN[row.meter]} {row.slope:.2f}" for row in fitted.itertuples())
        said.append(f"{NAMES.get(party, party)}: {exponents}")
    styled(plot, f"Growth with {variable}", variable, "")
    logarithmic(plot)
    logarithmic(plot, "x")
    return Figure(plot, f"Exponents of growth with {variable}, fitted: " + "; ".join(said) + ".")
