"""Spoofs against defences, at one look."""

import pandas as pd
import plotly.graph_objects as go

from polkit.figures.drawing import LOOK, ORANGE, Figure


def matrix_figure(counts: pd.DataFrame, repeats: int) -> Figure:
    """A square per folder (rows) and verifier (columns), darker the more often it was accepted, with the number in it.

    counts: in how many of the `repeats` each folder was accepted.
    """
    words = counts.map(lambda accepted: str(accepted) if accepted else "–")
    plot = go.Figure(go.Heatmap(
        z=counts.to_numpy() / repeats, x=list(counts.columns), y=list(counts.index), text=words.to_numpy(),
        texttemplate="%{text}", xgap=2, ygap=2, zmin=0, zmax=1, colorscale=[[0, "#F2F2F2"], [1, ORANGE]],
        showscale=False, hovertemplate=f"%{{y}}, %{{x}}: accepted in %{{text}} of {repeats}<extra></extra>",
    ))  # fmt: skip
    plot.update_layout(template=LOOK, height=160 + 28 * len(counts), margin={"l": 260, "r": 70, "t": 150, "b": 10})
    plot.update_xaxes(side="top", tickangle=-50, showgrid=False)
    plot.update_yaxes(autorange="reversed", showgrid=False)
    spoofs = counts.iloc[1:].astype(bool)
    first, shut = counts.columns[0], [name for name in counts.columns if not spoofs[name].any()]
    last = f"none passes “{'” or “'.join(shut)}”" if shut else "none of the others stops all of them"
    return Figure(plot, f"Of {len(spoofs)} spoofs, {int(spoofs[first].sum())} pass the verifier “{first}” in one of "
                        f"{repeats} trainings or more; {last}.")  # fmt: skip
