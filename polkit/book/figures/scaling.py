"""How the cost of each party grows: lines through the logarithms, with the slopes that were fitted."""

import pandas as pd

from polkit.book.figures.drawing import Figure, logarithmic, styled
from polkit.book.figures.results import NAMES, curves

SHOWN = {"floating_point_operations": "operations", "stored_bytes": "bytes", "wall_seconds": "seconds"}


def scaling_figure(table: pd.DataFrame, slopes: pd.DataFrame, variable: str) -> Figure:
    """Operations, bytes and seconds of each party over one variable (T, k, Q, T' or parameters), both logarithmic.

    table, slopes: growth.csv and growth_slopes.csv. A party that stores nothing has no line there.
    """
    rows = (
        table[table["variable"] == variable]
        .replace({"party": NAMES})
        .rename(columns=SHOWN)
        .sort_values("value", kind="stable")
    )
    fitted = slopes[slopes["variable"] == variable].replace({"party": NAMES, "meter": SHOWN})
    drawn = rows.melt(["party", "value"], list(SHOWN.values()), "meter", "cost").query("cost > 0")
    plot = curves(drawn, "value", "cost", "party", facet_col="meter", facet_col_spacing=0.09)
    logarithmic(logarithmic(styled(plot, f"Growth with {variable}", variable, "")), "x")
    said = [
        f"{party}: " + ", ".join(f"{row.meter} {row.slope:.2f}" for row in found.itertuples())
        for party, found in fitted.groupby("party", sort=False)
    ]
    return Figure(plot, f"Exponents of growth with {variable}, fitted: {'; '.join(said)}.")
