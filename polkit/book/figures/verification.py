"""Figures of a verdict: every replayed interval against δ, over the training."""

import math
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from polkit.book.figures.drawing import Figure, drawable, level, line, logarithmic, mark, points, spoken, styled
from polkit.book.figures.look import BLUE, GREY, ORANGE
from polkit.defences import detection_probability
from polkit.verifier import Calibration, Verdict, worst_ratios

FLOOR = 1e-6  # of δ: where an error of exactly 0 is drawn


def verdict_figure(
    verdict: Verdict,
    calibration: Calibration,
    *,
    threshold_scale: float = 1.0,
    top_q: int | str = "all",
    parts: Sequence[str] = (),
    guess: float | None = None,
) -> Figure:
    """Every interval's largest error over training, as a multiple of the calibrated δ.

    verdict: with every interval replayed
    threshold_scale: what δ is multiplied with; parts: that are drawn (default: those that the regime compares)
    guess: the reader's step, drawn as a line
    """
    worst = worst_ratios(verdict, calibration, parts or calibration.regime.parts)
    replayed = worst["start"].isin(set(verdict.at(top_q).intervals["start"]))
    within = worst["ratio"] <= threshold_scale
    plot = go.Figure()
    for name, mask, colour, symbol, size in (
        ("replayed, within δ", replayed & within, BLUE, "circle-open", 7),
        ("replayed, above δ: rejected", replayed & ~within, ORANGE, "x", 10),
        ("not replayed at this Q", ~replayed, GREY, "line-ns-open", 6),
    ):
        rows = worst[mask]
        where = [f"{row.distance} of the {row.part}, epoch {row.epoch}" for row in rows.itertuples()]
        hover = {"text": where, "hovertemplate": "steps from %{x}: %{y:.3g} δ (%{text})"}
        points(plot, name, rows["start"], drawable(rows["ratio"], FLOOR), colour, symbol, size, **hover)
    level(plot, threshold_scale, f"δ × {threshold_scale:.2f}")
    if guess is not None:
        mark(plot, guess, "your prediction", guess=True, log=False)
    styled(plot, "Intervals against δ", "first step of the interval", "error / δ as calibrated")
    logarithmic(plot)
    others = sorted({reason.kind for reason in verdict.reasons if reason.kind != "error"})
    return Figure(plot, _in_words(worst[replayed], threshold_scale, len(worst), others))


def _in_words(replayed: pd.DataFrame, threshold_scale: float, intervals: int, others: Sequence[str]) -> str:
    """replayed: rows of `worst_ratios`; others: what was found besides errors above δ."""
    found = f" (found besides: {', '.join(others)})" if others else ""
    if replayed.empty:
        return f"{'rejected' if others else 'accepted'}{found}: no interval was replayed."
    above = replayed[~(replayed["ratio"] <= threshold_scale)]
    word = "rejected" if others or len(above) else "accepted"
    top = replayed.loc[replayed["ratio"].fillna(math.inf).idxmax()]
    ends = f"the last, steps {above['start'].iloc[-1]} to {above['end'].iloc[-1]}; " if len(above) > 1 else ""
    known = f" (of {intervals})" if intervals > len(replayed) else ""
    ratio, lie = top["ratio"] / threshold_scale, "lies" if len(above) == 1 else "lie"
    largest = f"{ratio:.3g}" if 0.95 < ratio < 1.05 else spoken(ratio)  # on which side of δ must be told
    return (
        f"{word}{found}: {len(above)} of the {len(replayed)} replayed intervals{known} {lie} above δ; {ends}"
        f"the largest error is {largest} δ, in {top['distance']} of the {top['part']}, "
        f"steps {top['start']} to {top['end']}."
    )


def draws_figure(intervals: int, *, made_up: int, drawn: int, guess: float | None = None) -> Figure:
    """The probability that m random intervals have a made-up one among them, over m.

    intervals: n, of the proof
    made_up: f
    drawn: m, to mark
    guess: the m that the reader expects to be enough for 95%
    """
    counts = range(intervals + 1)
    found = [detection_probability(intervals, made_up, count) for count in counts]
    plot = go.Figure()
    line(plot, "at least one found", list(counts), found, BLUE, line_simplify=False)
    points(plot, f"m = {drawn}", [drawn], [found[drawn]], ORANGE, "circle", 11)
    if guess is not None:
        mark(plot, guess, "your prediction", guess=True, log=False)
    styled(plot, "A random draw", "m, intervals drawn", "probability to find at least one")
    plot.update_yaxes(range=[0, 1.03])
    least = next((count for count in counts if found[count] >= 0.95), None)
    enough = f"a probability of 0.95 needs {least}" if least is not None else "no number is enough"
    one = "the one made-up one" if made_up == 1 else f"one of {made_up} made-up ones"
    told = f"{drawn} of {intervals} intervals find {one} with probability {found[drawn]:.3f}"
    return Figure(plot, f"{told}; {enough}.")
