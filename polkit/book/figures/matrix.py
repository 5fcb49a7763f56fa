"""Spoofs against defences, at one look."""

import pandas as pd
import plotly.express as px
import plotly.graph_objects as go

from polkit.book.figures.drawing import Figure, spoken, styled
from polkit.book.figures.look import BLUE, LOOK, ORANGE


def matrix_figure(counts: pd.DataFrame, repeats: int) -> Figure:
    """A square per folder (rows) and verifier (columns), darker the more often it was accepted, with the number in it.

    counts: in how many of the `repeats` each folder was accepted.
    """
    look = {"color_continuous_scale": ["#F2F2F2", ORANGE], "template": LOOK, "aspect": "auto"}
    plot = px.imshow(counts / repeats, zmin=0, zmax=1, labels={"x": "", "y": ""}, **look)
    hover = f"%{{y}}, %{{x}}: accepted in %{{text}} of {repeats}<extra></extra>"
    plot.update_traces(
        text=counts.astype(str).replace("0", "–"), texttemplate="%{text}", xgap=2, ygap=2, hovertemplate=hover
    )
    margin = {"l": 260, "r": 70, "t": 150, "b": 10}
    plot.update_layout(
        template=LOOK, height=160 + 28 * len(counts), margin=margin, font_size=12, coloraxis_showscale=False
    )
    plot.update_xaxes(side="top", tickangle=-50, showgrid=False)
    plot.update_yaxes(autorange="reversed", showgrid=False)
    spoofs = counts.iloc[1:].astype(bool)
    first, shut = counts.columns[0], [name for name in counts.columns if not spoofs[name].any()]
    last = f"none passes “{'” or “'.join(shut)}”" if shut else "none of the others stops all of them"
    return Figure(
        plot,
        f"Of {len(spoofs)} spoofs, {int(spoofs[first].sum())} pass the verifier “{first}” in one of "
        f"{repeats} trainings or more; {last}.",
    )


def standing_figure(counts: pd.Series, repeats: int, shares: pd.Series) -> Figure:
    """A bar per folder, the honest proof first: in how many of the `repeats` it is accepted.

    shares: folder -> operations as a share of the proof's, of the spoofs.
    """
    honest, spoofs = counts.iloc[0], counts.iloc[1:]
    names = [f"{name} ({shares[name]:.2g})" if name in shares.index else name for name in counts.index]
    text = [str(count) if count else "rejected" for count in counts]
    hover = f"%{{y}}: accepted in %{{x}} of {repeats}<extra></extra>"
    plot = go.Figure(go.Bar(x=counts.to_list(), y=names, orientation="h", text=text, hovertemplate=hover))
    plot.update_traces(marker_color=[BLUE, *[ORANGE] * len(spoofs)], textposition="outside", cliponaxis=False)
    across = "accepted in so many trainings<br>(in brackets: operations / the proof's)"
    styled(plot, "", across, "", height=170 + 24 * len(counts))
    plot.update_layout(margin={"l": 110, "t": 20, "b": 80, "r": 60}, showlegend=False)
    plot.update_xaxes(range=[0, repeats], dtick=1)
    plot.update_yaxes(autorange="reversed", title_text=None, automargin="left")  # the longest name is 40 letters long
    left = spoofs[spoofs > 0]
    said = f"the honest proof is accepted in {honest} of {repeats} trainings"
    if left.empty:
        return Figure(plot, f"{said}; none of the {len(spoofs)} spoofs is accepted in any.")
    cheapest = shares[left.index].idxmin()
    return Figure(
        plot,
        f"{said}; {len(left)} of {len(spoofs)} spoofs are accepted in one or more, the cheapest of "
        f"them {cheapest}, for {spoken(shares[cheapest])} of the proof's operations.",
    )
