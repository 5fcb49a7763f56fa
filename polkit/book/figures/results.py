"""Figures 2-11 of the paper, drawn from the averages that `polkit reproduce` leaves."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from polkit.book.figures.drawing import (
    BLACK,
    BLUE,
    COLOURS,
    DASHES,
    GREEN,
    GREY,
    ORANGE,
    SHAPES,
    Figure,
    drawable,
    logarithmic,
    spoken,
    styled,
)
from polkit.training import DISTANCES

NAMES = {
    "attack_1": "Attack I",
    "attack_2": "Attack II",
    "attack_3": "Attack III",
    "interpolation_only": "interpolation only",
    "borrowed_momentum": "borrowed momentum",
}


QS = {"one": "1", "most": "⌊S/k⌋"}
SHOWN = {
    "l1": "error in l1 / d_ref",
    "l2": "error in l2 / d_ref",
    "linf": "error in l∞ / d_ref",
    "cos": "error in cos / d_ref",
    "wall_seconds": "seconds / the proof's",
    "stored_bytes": "bytes / the proof's",
}


def chosen(averages: pd.DataFrame, value: str, **setting) -> pd.DataFrame:
    """The rows of one value in one setting; what the setting does not name is the prover's own."""
    usual = {
        "adversary_half": "",
        "off_path": 0.0,
        "adversary_device": "",
        "adversary_precision": "",
        "adversary_threads": 0,
    }
    kept = averages["value"] == value
    for name, wanted in (usual | setting).items():
        kept &= averages[name] == wanted
    return averages[kept]


def lengths_figure(averages: pd.DataFrame, attack: str, task: str, *, half: str = "", top_q: str = "most") -> Figure:
    """Figures 2-9, (a) to (f): four errors, seconds and bytes over T', with the proof's as a line.

    half: of the adversary, where it has other images than the prover · top_q: `one`, or `most` for ⌊S/k⌋.
    Bars span the deviation over the repeats. Seconds and bytes are divided by the proof's.
    """
    plot = make_subplots(rows=3, cols=2, subplot_titles=list(SHOWN.values()), vertical_spacing=0.09, shared_xaxes=True)
    said = []
    for number, quantity in enumerate(SHOWN):
        row, column = divmod(number, 2)
        place = {"row": row + 1, "col": column + 1}
        error = quantity in DISTANCES
        value = f"weights.{top_q}.{quantity}" if error else f"share.{quantity}"
        for kind, colour, symbol, dash in (
            (attack, BLUE, "circle", "solid"),
            ("interpolation_only", GREEN, "diamond", "dot"),
        ):
            rows = chosen(averages, value, experiment="spoof", attack=kind, task=task, adversary_half=half)
            rows = rows.sort_values("spoof_steps")
            plot.add_scatter(
                x=list(rows["spoof_steps"]),
                y=drawable(rows["mean"]),
                name=NAMES[kind],
                showlegend=number == 0,
                error_y={"type": "data", "array": list(rows["deviation"].fillna(0)), "thickness": 1},
                line={"color": colour, "dash": dash},
                marker={"symbol": symbol, "size": 7},
                **place,
            )
            if kind == attack:
                mine = rows
        lines = {"the proof": 1.0}
        if error:
            proof, delta = (
                chosen(averages, name, experiment="honest", task=task)["mean"]
                for name in (value, f"threshold.weights.{quantity}")
            )
            lines = {"the proof": proof.iloc[0], "δ": delta.iloc[0]}
            below = mine.loc[mine["mean"] <= proof.iloc[0], "spoof_steps"].tolist()
            said.append((quantity, mine, below))
        lengths = averages.loc[(averages["attack"] == attack) & (averages["task"] == task), "spoof_steps"]
        for name, level in lines.items():
            plot.add_scatter(
                x=[lengths.min(), lengths.max()],
                y=[level, level],
                mode="lines",
                name=name,
                line={"color": BLACK if name == "the proof" else ORANGE, "dash": "dash"},
                showlegend=number == 0,
                **place,
            )
    title = f"{NAMES[attack]} over T' on {task}, Q = {QS[top_q]}" + (", disjoint halves" if half else "")
    styled(plot, title, "", "", height=760)
    plot.update_xaxes(type="log", tickvals=sorted(set(lengths)))
    plot.update_xaxes(title_text="T', steps", row=3)
    logarithmic(plot)
    repeats = int(said[0][1]["repeats"].min())
    lower = [
        f"{quantity} at " + (f"T' = {', '.join(map(str, below))}" if below else "no T' tried")
        for quantity, _, below in said
    ]
    return Figure(
        plot,
        f"{NAMES[attack]} errs at most as much as the proof in {'; in '.join(lower)} (means of {repeats} repeats).",
    )


def accuracy_figure(averages: pd.DataFrame, task: str) -> Figure:
    """Figure 10: accuracy of the intermediate models over the progress of training, of the proof and of Attack III.

    One line per extent of the perturbation that takes the first checkpoints off the straight path.
    """
    rows = averages[averages["value"].str.startswith("accuracy.") & (averages["task"] == task)]
    rows = rows.assign(share=rows["value"].str.removeprefix("accuracy.").astype(float))
    proof = rows[rows["experiment"] == "honest"].sort_values("share")
    plot = go.Figure()
    plot.add_scatter(
        x=list(proof["share"]),
        y=list(proof["mean"]),
        name="the proof",
        line={"color": BLACK},
        marker={"symbol": "circle"},
    )
    spoofs = rows[(rows["attack"] == "attack_3") & (rows["adversary_half"] == "") & (rows["adversary_precision"] == "")]
    usual = spoofs.loc[spoofs["off_path"] > 0, "spoof_steps"]
    length = usual.iloc[0] if len(usual) else spoofs["spoof_steps"].median()
    said = []
    for number, (off_path, curve) in enumerate(spoofs[spoofs["spoof_steps"] == length].groupby("off_path")):
        curve = curve.sort_values("share")
        name = f"perturbed by {off_path:.0%}" if off_path else "straight path"
        plot.add_scatter(
            x=list(curve["share"]),
            y=list(curve["mean"]),
            name=f"Attack III, {name}",
            line={"color": COLOURS[number], "dash": DASHES[number]},
            marker={"symbol": SHAPES[number]},
        )
        gap = (curve["mean"].to_numpy() - proof["mean"].to_numpy()).tolist()
        accepted = chosen(
            averages, "accepted.all", attack="attack_3", task=task, spoof_steps=length, off_path=off_path
        )["mean"].iloc[0]
        said.append(
            f"{name}: {spoken(sum(map(abs, gap)) / len(gap))} from the proof's on average, accepted in "
            f"{accepted:.0%} of the repeats"
        )
    styled(plot, f"Accuracy of intermediate models on {task}", "share of the steps", "accuracy on test images")
    return Figure(plot, "; ".join(said) + ".")


def conditions_figure(averages: pd.DataFrame, task: str) -> Figure:
    """Figure 11: seconds of a spoof as a share of the proof's, where the adversary computes in another way."""
    rows = averages[
        (averages["value"] == "share.wall_seconds")
        & (averages["task"] == task)
        & (averages["adversary_half"] == "")
        & (averages["off_path"] == 0)
    ]
    other = rows[(rows["adversary_precision"] != "") | (rows["adversary_device"] != "")]
    lengths = set(other["spoof_steps"])
    rows = rows[rows["spoof_steps"].isin(lengths) & rows["attack"].isin(["attack_2", "attack_3"])]
    plot, said = go.Figure(), []
    for (attack, found), colour, pattern in zip(rows.groupby("attack"), COLOURS, ("", "/"), strict=False):
        names = [
            " ".join(filter(None, pair)) or "as the prover"
            for pair in zip(found["adversary_device"], found["adversary_precision"], strict=True)
        ]
        plot.add_bar(
            x=names,
            y=list(found["mean"]),
            name=NAMES[attack],
            marker_color=colour,
            marker_pattern_shape=pattern,
            error_y={"type": "data", "array": list(found["deviation"].fillna(0))},
        )
        said += [f"{NAMES[attack]}, {name}: {spoken(v)}" for name, v in zip(names, found["mean"], strict=True)]
    styled(
        plot, f"Spoof time under other conditions on {task}", "the adversary computes", "share of the proof's seconds"
    )
    plot.add_hline(y=1, line={"color": GREY, "dash": "dash"})
    return Figure(plot, "share of the proof's seconds: " + "; ".join(said) + ".")


def drawn_figures(averages: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that these averages have the runs for, by name."""
    drawn: dict[str, Figure] = {}
    spoofs = averages[averages["experiment"] == "spoof"]
    for task in unique(spoofs["task"]):
        mine = spoofs[spoofs["task"] == task]
        for half in unique(mine["adversary_half"]):
            for attack in ("attack_2", "attack_3"):
                found = mine[(mine["attack"] == attack) & (mine["adversary_half"] == half)]
                if found["spoof_steps"].nunique() > 1:
                    name = f"{attack}-{task}" + ("-halves" if half else "")
                    drawn[name] = lengths_figure(averages, attack, task, half=half)
                    drawn[f"{name}-q1"] = lengths_figure(averages, attack, task, half=half, top_q="one")
        if (mine["off_path"] > 0).any():
            drawn[f"accuracy-{task}"] = accuracy_figure(averages, task)
        if (mine["adversary_precision"] != "").any() or (mine["adversary_device"] != "").any():
            drawn[f"conditions-{task}"] = conditions_figure(averages, task)
    return drawn


def unique(values: pd.Series) -> Sequence[str]:
    return list(dict.fromkeys(values))
