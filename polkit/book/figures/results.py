"""Figures 2-11 of the paper, drawn from the averages that `polkit reproduce` leaves, and how costs grow."""

import itertools

import pandas as pd
import plotly.express as px
import plotly.graph_objects as go

from polkit.book.figures.drawing import Figure, drawable, logarithmic, spoken, styled
from polkit.book.figures.look import BLACK, COLOURS, DASHES, GREEN, GREY, LOOK, OF_ATTACK, SHAPES
from polkit.book.report import METERS
from polkit.experiments.window import ATTACKS, PROVERS, SAME_MACHINE
from polkit.training import DISTANCES

NAMES = {"attack_1": "Attack I"} | ATTACKS | {"borrowed_momentum": "borrowed momentum"}
QS = {"one": "1", "most": "⌊S/k⌋"}
SHOWN = {name: f"error in {name.replace('inf', '∞')} / d<sub>ref</sub>" for name in DISTANCES}
SHOWN |= {"wall_seconds": "seconds / the proof's", "stored_bytes": "bytes / the proof's"}
LINES = {  # of the attack, interpolation only, the proof and δ
    "line_dash_sequence": ("solid", "dot", "dash", "dash"),
    "symbol_sequence": ("circle", "diamond"),
}
USUAL = {"off_path": 0.0, "pace": "", "stopping_test": True, "adversary_threads": 0}  # as the prover works
USUAL |= {"adversary_half": "", "adversary_device": "", "adversary_precision": ""}


def chosen(averages: pd.DataFrame, value: str, **setting) -> pd.DataFrame:
    """The rows of one value in one setting; what the setting does not name is the prover's own."""
    wanted = {"value": value} | USUAL | setting
    return averages[(averages[list(wanted)] == pd.Series(wanted)).all(axis=1)]


def curves(rows: pd.DataFrame, x: str, y: str, by: str, **settings) -> go.Figure:
    """`plotly.express.line`, a line for each value of `by`; with facet_col, plots that each have their own heights."""
    looks = {"color_discrete_sequence": COLOURS, "line_dash_sequence": DASHES, "symbol_sequence": SHAPES} | settings
    plot = px.line(rows, x=x, y=y, color=by, line_dash=by, symbol=by, template=LOOK, **looks)
    plot.for_each_annotation(lambda title: title.update(text=title.text.partition("=")[2], font_size=16))
    plot.update_yaxes(matches=None, showticklabels=True)
    return plot.update_traces(marker_size=7, hovertemplate=None)


def lengths_figure(averages: pd.DataFrame, attack: str, task: str, *, half: str = "", top_q: str = "most") -> Figure:
    """Figures 2-9, (a) to (f): four errors, seconds and bytes over T', with the proof's as a line.

    Bars span the deviation over the repeats. Shaded: where each spoof was accepted at Q = all.

    half: of the adversary, where they have other images than the prover
    top_q: `one`, or `most` for ⌊S/k⌋
    """
    mine = averages[(averages["attack"] == attack) & (averages["task"] == task)]
    made = chosen(mine, "accepted.all", attack=attack, adversary_half=half)
    lengths, parts, said = sorted(set(made["spoof_steps"])), [], []
    spoof, honest = {"experiment": "spoof", "task": task}, {"experiment": "honest", "task": task}
    for letter, (quantity, title) in zip("abcdef", SHOWN.items(), strict=True):
        title = f"({letter}) {title}"
        value = f"weights.{top_q}.{quantity}" if quantity in DISTANCES else f"share.{quantity}"
        for kind in (attack, "interpolation_only"):
            rows = chosen(averages, value, attack=kind, adversary_half=half, **spoof).sort_values("spoof_steps")
            parts.append(rows.fillna({"deviation": 0}).assign(name=NAMES[kind], shown=title))
        levels = {"the proof": 1.0}
        if quantity in DISTANCES:
            rows, wanted = parts[-2], {"the proof": value, "δ": f"threshold.weights.{quantity}"}
            levels = {name: chosen(averages, each, **honest)["mean"].iloc[0] for name, each in wanted.items()}
            below = rows.loc[rows["mean"] <= levels["the proof"], "spoof_steps"]
            said.append(f"{quantity} at " + (f"T' = {', '.join(map(str, below))}" if len(below) else "no T' tried"))
        for name, height in levels.items():
            ends = {"spoof_steps": [lengths[0], lengths[-1]], "mean": height}
            parts.append(pd.DataFrame(ends).assign(name=name, shown=title))
    drawn = pd.concat(parts).assign(mean=lambda rows: drawable(rows["mean"]))
    facets = {"facet_col": "shown", "facet_col_wrap": 2, "facet_row_spacing": 0.1, "facet_col_spacing": 0.12}
    colours = {"color_discrete_sequence": (OF_ATTACK[NAMES[attack]], GREEN, BLACK, GREY)}
    plot = curves(drawn, "spoof_steps", "mean", "name", error_y="deviation", **facets, **LINES, **colours)
    plot.update_traces(error_y_thickness=1).update_traces(line_width=5, selector={"name": NAMES[attack]})
    plot.for_each_trace(lambda trace: trace.update(mode="lines" if trace.line.dash == "dash" else "lines+markers"))
    title = f"{NAMES[attack]} over T' on {task}, Q = {QS[top_q]}" + (", disjoint halves" if half else "")
    passed = set(made.loc[made["mean"] == 1, "spoof_steps"])
    look = {"fillcolor": GREEN, "opacity": 0.12, "line_width": 0, "row": "all", "col": "all"}
    for accepted, neighbours in itertools.groupby(lengths, passed.__contains__):
        if accepted:
            run = list(neighbours)
            plot.add_vrect(x0=run[0] / 1.03, x1=run[-1] * 1.03, **look)
    title += "; shaded: it is always accepted (Q = all)" if passed else ""
    styled(plot, title, "", "", height=820)
    plot.update_xaxes(type="log", tickvals=lengths, tickangle=0, showticklabels=True)
    plot.update_xaxes(title_text="T', steps", row=1)  # counted from below
    told = f"in {'; in '.join(said)} (means of {parts[0]['repeats'].min():.0f} repeats)"
    return Figure(logarithmic(plot), f"{NAMES[attack]} errs at most as much as the proof {told}.")


def examples_figure(spoofs: pd.DataFrame, over: str = "spoof_steps") -> Figure:
    """The largest error over δ of each attack over T', mean of the trainings; bars from the least to the most.

    spoofs: from `spoof_rows`, such as those of "examples/runs_paper"; over: or another of their columns
    """
    ratio = spoofs.groupby(["attack", over])["ratio"].agg(["mean", "min", "max"]).reset_index()
    ratio = ratio.assign(above=ratio["max"] - ratio["mean"], below=ratio["mean"] - ratio["min"])
    beside = {name: 1 + 0.012 * (place - 1) for place, name in enumerate(ratio["attack"].unique())}
    apart = ratio.assign(**{over: ratio[over] * ratio["attack"].map(beside)})  # else one bar hides the others
    plot = curves(apart, over, "mean", "attack", error_y="above", error_y_minus="below")
    plot.add_hline(y=1, line={"color": GREY, "dash": "dash"}, annotation_text="δ")
    plot.update_xaxes(tickvals=sorted(set(ratio[over])), tickformat=".3~r", type="log")
    x, title = ("T', steps", "") if over == "spoof_steps" else (over, f", over {over}")
    styled(plot, f"Where the examples decide{title}", x, "largest error / δ")
    found = spoofs.groupby("attack")["accepted"].agg(["sum", "count"])
    said = [f"{row.Index} was accepted in {row.sum} of {row.count} spoofs" for row in found.itertuples()]
    return Figure(plot, "; ".join(said) + ".")


def accuracy_figure(averages: pd.DataFrame, task: str) -> Figure:
    """Figure 10: accuracy of the intermediate models over the progress of training, of the proof and of Attack III.

    One line per extent of the perturbation that takes the first checkpoints off the straight path, and per pace.
    """
    rows = averages[averages["value"].str.startswith("accuracy.") & (averages["task"] == task)]
    rows = rows.assign(share=rows["value"].str.removeprefix("accuracy.").astype(float)).sort_values("share")
    proof = rows[rows["experiment"] == "honest"].assign(name="the proof")
    spoofs = rows.query(f"attack == 'attack_3' and {PROVERS} and {SAME_MACHINE}")
    length = spoofs.loc[(spoofs["off_path"] > 0) | (spoofs["pace"] != ""), "spoof_steps"].iloc[0]
    drawn, said = [proof], []
    for (off_path, pace), curve in spoofs[spoofs["spoof_steps"] == length].groupby(["off_path", "pace"]):
        name = "faster at first" if pace else f"perturbed by {off_path:.0%}" if off_path else "straight path"
        drawn.append(curve.assign(name=f"Attack III, {name}"))
        made = {"attack": "attack_3", "task": task, "spoof_steps": length, "off_path": off_path, "pace": pace}
        accepted = chosen(averages, "accepted.all", **made)["mean"].iloc[0]
        gap = (proof["mean"] - curve["mean"].to_numpy()).abs().mean()
        said.append(f"{name}: {spoken(gap)} from the proof's on average, accepted in {accepted:.0%} of the repeats")
    looks = {"color_discrete_sequence": (BLACK, *COLOURS), "line_dash_sequence": ("solid", *DASHES)}
    plot = curves(pd.concat(drawn), "share", "mean", "name", symbol_sequence=("circle", *SHAPES), **looks)
    styled(plot, f"Accuracy of intermediate models on {task}", "share of the steps", "accuracy on test images")
    return Figure(plot, "; ".join(said) + ".")


def conditions_figure(averages: pd.DataFrame, task: str) -> Figure:
    """Figure 11: seconds of a spoof as a share of the proof's, where the adversary computes in another way."""
    rows = averages.query(
        "value == 'share.wall_seconds' and task == @task and adversary_half == '' and off_path == 0 and pace == ''"
        " and stopping_test == True and attack in ('attack_2', 'attack_3')"
    ).sort_values("attack", kind="stable")
    way = (rows["adversary_device"] + " " + rows["adversary_precision"]).str.strip()
    rows = rows.assign(way=way.replace("", "as the prover"), name=rows["attack"].map(NAMES)).fillna({"deviation": 0})
    rows = rows[rows["spoof_steps"].isin(rows.loc[way != "", "spoof_steps"])]
    looks = {"color_discrete_sequence": COLOURS, "pattern_shape_sequence": ("", "/"), "template": LOOK}
    bars = {"color": "name", "pattern_shape": "name", "error_y": "deviation", "barmode": "group"}
    plot = px.bar(rows, x="way", y="mean", **bars, **looks)
    title = f"Spoof time under other conditions on {task}"
    styled(plot, title, "the adversary computes", "share of the proof's seconds")
    named = {"annotation_text": "the honest proof", "annotation_position": "bottom right"}
    plot.add_hline(y=1, line={"color": GREY, "dash": "dash"}, **named)
    said = [f"{row.name}, {row.way}: {spoken(row.mean)}" for row in rows.itertuples()]
    return Figure(plot, "share of the proof's seconds: " + "; ".join(said) + ".")


def scaling_figure(table: pd.DataFrame, slopes: pd.DataFrame, variable: str) -> Figure:
    """Operations, bytes and seconds of each party over one variable (T, k, Q, T' or parameters), both logarithmic.

    table, slopes: growth.csv and growth_slopes.csv. A party that stores nothing has no line there.
    """
    rows = table[table["variable"] == variable].sort_values("value", kind="stable").replace({"party": NAMES})
    drawn = rows.rename(columns=METERS).melt(["party", "value"], ["operations", "bytes", "seconds"], "meter", "cost")
    fitted = slopes[slopes["variable"] == variable].replace({"party": NAMES, "meter": METERS})
    plot = curves(drawn.query("cost > 0"), "value", "cost", "party", facet_col="meter", facet_col_spacing=0.09)
    logarithmic(logarithmic(styled(plot, f"Growth with {variable}", variable, "")), "x")
    plot.update_yaxes(title_text=None, dtick=1, exponentformat="power", tickformat=None)
    said = [
        f"{party}: " + ", ".join(f"{row.meter} {row.slope:.2f}" for row in found.itertuples())
        for party, found in fitted.groupby("party", sort=False)
    ]
    return Figure(plot, f"Exponents of growth with {variable}, fitted: {'; '.join(said)}.")


def drawn_figures(averages: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that these averages have the runs for, by name; none of a task whose proof is not judged yet."""
    averages = averages[averages["task"].isin(averages.loc[averages["experiment"] == "honest", "task"])]
    drawn: dict[str, Figure] = {}
    for task, mine in averages[averages["experiment"] == "spoof"].groupby("task", sort=False):
        for half, attack in itertools.product(mine["adversary_half"].unique(), ("attack_2", "attack_3")):
            found = mine[(mine["attack"] == attack) & (mine["adversary_half"] == half)]
            if found["spoof_steps"].nunique() > 1:
                name = f"{attack}-{task}" + ("-halves" if half else "")
                drawn[name] = lengths_figure(averages, attack, task, half=half)
                drawn[f"{name}-q1"] = lengths_figure(averages, attack, task, half=half, top_q="one")
        if ((mine["off_path"] > 0) | (mine["pace"] != "")).any():
            drawn[f"accuracy-{task}"] = accuracy_figure(averages, task)
        if (mine[["adversary_precision", "adversary_device"]] != "").any(axis=None):
            drawn[f"conditions-{task}"] = conditions_figure(averages, task)
    return drawn
