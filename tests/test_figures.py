"""Every figure: what it draws is what it was given, told apart without colour, and said in words."""

import json
import math
import re
from dataclasses import replace
from functools import partial
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from jupyter_client.jsonutil import json_default

import polkit as pk
from polkit.book import figures
from polkit.book.figures.drawing import logarithmic, spoken
from polkit.book.figures.results import lengths_figure
from polkit.experiments import miniature
from polkit.experiments.places import by_place
from polkit.experiments.published import published
from polkit.experiments.window import Attempt, window, window_edges
from polkit.training import DISTANCES, PARTS
from polkit.verifier import STRICT, Calibration, Reason
from polkit.verifier.verdict import worst_ratios
from tests import drawn as shared

TASK = pk.task("digits").replace(train_size=256, epochs=4, checkpoint_interval=4)  # S = 4, T = 16
LIMITS = {
    "weights": {"l1": 40.0, "l2": 2.0, "linf": 0.5, "cos": 0.01},
    "buffers": {"l1": 8.0, "l2": 4.0, "linf": 1.0, "cos": 0.02},
}
HALF = {part: {name: value / 2 for name, value in table.items()} for part, table in LIMITS.items()}
TENFOLD = {part: {name: value * 10 for name, value in table.items()} for part, table in LIMITS.items()}
CALIBRATION = Calibration(
    TASK, STRICT, STRICT.conditions(pk.Conditions()), LIMITS, HALF, TENFOLD, 2.0, 2, 0, 0, pk.Cost()
)


made_verdict = partial(shared.made_verdict, CALIBRATION)
ERRORS = {start: 0.1 * (start % 5 + 1) + 0.05 * start for start in range(16)}  # 0.1 to 1.3 δ
WITH_GAPS = ERRORS | {3: math.nan, 7: math.inf, 9: 0.0}


def growth_table():
    values = {"nothing": 0.0, "another thread": 1e-7, "redrawn augmentation": 0.1}
    rows = [
        (source, start, steps, part, name, error * steps * (1 + start) * (number + 1))
        for source, error in values.items()
        for start in (0, 4)
        for steps in (1, 2, 5, 10)
        for part in PARTS
        for number, name in enumerate(DISTANCES)
    ]
    return pd.DataFrame(rows, columns=["source", "start", "steps", "part", "distance", "error"])


SIZES = pd.DataFrame({"checkpoint_interval": [5, 10, 100], "stored_bytes": [80e6, 40e6, 4e6]})
MEASURED = [{"checkpoint_interval": 10, "stored_bytes": 41e6}, {"checkpoint_interval": 50, "stored_bytes": 9e6}]
PATH = np.stack([np.linspace(0, 1, 13), np.linspace(1, 0, 13) ** 2], 1)
REPLAYED = PATH[[4, 8, 12]] + 0.01
FORGED = np.stack([np.linspace(0.5, 1, 5), np.linspace(0.5, 0, 5)], 1)
GRID = (np.linspace(-1, 2, 7), np.linspace(-1, 2, 6), np.arange(42.0).reshape(6, 7))
TRACE = pd.DataFrame(
    {
        "step": [0, 1, 2, 3],
        "evaluations": [12, 0, 7, 30],
        "loss_before": [2.0, 1.5, 1.0, 3.0],
        "loss_after": [0.2, 1.5, 0.0, 0.4],
        "gradient_squared_before": [5.0, 0.1, 4.0, 9.0],
        "gradient_squared_after": [0.05, 0.1, 0.04, 0.0],
    }
)
PLACES = pd.DataFrame(
    {
        "keeps_normalisation": [False] * 6 + [True] * 6,
        "place": [0.0, 0.0, 0.0, 0.4, 0.4, 0.4] * 2,
        "noise_weight": [0.0, 1e-3, 1.0] * 4,
        "batch": 0,
        "loss_before": 1.0,
        "loss_after": 0.5,
        "gradient_squared_before": [8.0] * 3 + [2.0] * 3 + [6.0] * 3 + [1.0] * 3,
        "gradient_squared_after": [1.0, 2.0, 8.0, 0.02, 0.1, 1.0, 1.0, 1.5, 6.0, 0.01, 0.02, 0.5],
        "grey_levels_mean": 3.0,
        "grey_levels_largest": 40.0,
        "psnr": [20.0, 30.0, np.nan, 22.0, 32.0, 50.0] * 2,
    }
)
COROLLARY = pd.DataFrame(
    {
        "k": [2, 5, 10],
        "measured_gap": [0.02, 0.2, 0.6],
        "bound": [0.1, 1.0, 5.0],
        "bound_as_printed": [0.0, 0.3, 0.5],
        "alpha": 1.0,
        "beta": 2.0,
    }
)
PROOF_COST = pk.Cost(100, 1000, 10.0, 5000)
COSTS = {"Attack II": pk.Cost(50, 300, 4.0, 5500), "Attack III": pk.Cost(5, 250, 2.0, 2500)}
LENGTHS = np.array([4, 8, 16, 32, 64])
PATH_ERRORS = pd.DataFrame(
    {"spoof_steps": LENGTHS} | {name: LIMITS["weights"][name] * 16 / LENGTHS for name in DISTANCES}
)
TABLE = window(PATH_ERRORS, CALIBRATION, proof_steps=64, cost_per_step=1.5)
ATTEMPTS = (
    Attempt("Attack II", 32, 4, made_verdict({0: 0.2, 4: 0.5}, interval=4), 0.7),
    Attempt("Attack III", 8, 4, made_verdict({0: 0.3, 4: 2.5}, interval=4), 0.2),
    Attempt("Attack II", 64, 8, made_verdict({0: 0.1}, interval=8), 1.4),
)
BREAK_EVEN = {"interpolation only": 64.0, "Attack II": 40.0}
STAGES = {"edges": (0.0, 0.5), "scales": (1.0, 0.5)}
EDITOR = STAGES | {"shortest": 48, "costs": {"interpolation only": 1.0, "Attack II": 30.0}}
EDITOR |= {"spoof_steps": 80, "even": 0.6}
CELLS = pd.DataFrame(
    {
        "attack": ["Attack II"] * 4,
        "scale": [0.5, 1.0, 0.5, 1.0],
        "spoof_steps": [8, 8, 16, 16],
        "repeats": 3,
        "measured": [0, 2, 1, 3],
        "closed_form": [0, 0, 3, 3],
        "agree": [3, 1, 1, 3],
    }
)
METERS = pd.DataFrame({"Attack II": {"as the paper counts": 20.0, "in measured operations": 60.0}}).T
LEAST = pd.Series({8: 1.5, 16: 0.5})
STEPS = pd.DataFrame(
    {
        "start": 8,
        "end": 12,
        "update": range(5),
        "along": [0.0, 0.1, 0.2, 0.3, 0.4],
        "beside": [0.0, 0.1, 0.2, 0.25, 0.3],
        "moved": 0.8,
    }
).assign(error=lambda rows: np.hypot(rows["moved"] - rows["along"], rows["beside"]))
EVALUATED = pd.DataFrame(
    {
        "loss": [1.0, 0.8, 0.9, 0.4],
        "gradient_squared": [8.0, 4.0, 10.0, 0.5],
        "over_limit": [1.4, 0.9, 1.1, 0.35],
        "grey_levels": [0.0, 1.0, 2.5, 3.0],
    }
)
STARTS = pd.DataFrame(
    {
        "order": ["as drawn"] * 3 + ["sorted"] * 3,
        "spread": [0.5, 1.0, 2.0] * 2,
        "distance": [0.8, 0.9, 1.3, 0.4, 0.3, 0.5],
        "rejected": [7, 0, 8, 7, 0, 8],
    }
)
MODELS = pd.DataFrame(
    {"place": [0, 0.5, 1], "accuracy": [0.1, 0.9, 1], "loss": [2, 0.5, 0.01], "gradient_squared": [3, 1, 0.001]}
)
PATH_OF_ERRORS = pd.DataFrame(
    {
        "start": [0, 0.25, 0.5, 0.75],
        "end": [0.25, 0.5, 0.75, 1],
        "interpolation only": [0.9, 0.5, 0.2, math.nan],
        "Attack II": [0.5, 0.4, 0.2, 0.8],
    }
)


def images(seed):
    return torch.randint(0, 256, (3, 1, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def evaluated_images():
    return torch.stack([images(seed) for seed in range(4)])


def order():
    generator = torch.Generator().manual_seed(0)
    final, fresh = torch.randn(1000, generator=generator), torch.randn(1000, generator=generator)
    sorted_draw = torch.empty(1000)
    sorted_draw[final.argsort()] = torch.randn(1000, generator=generator).sort().values
    return sorted_draw.view(10, 100), fresh.view(10, 100), final.view(10, 100)


MADE = {
    "concept": lambda: figures.concept_figure(miniature.compared_paths()),
    "surface": lambda: figures.surface_figure(
        GRID, PATH, REPLAYED, FORGED, interval=4, threshold=0.2, forged_errors=np.array([0.1, 0.25, 0.3, 0.19])
    ),
    "growth": lambda: figures.growth_figure(growth_table(), reference=10.0, chosen=5, guess=0.02),
    "size": lambda: figures.size_figure(SIZES, chosen=10, guess=30.0, measured=MEASURED),
    "verdict": lambda: figures.verdict_figure(made_verdict(ERRORS), CALIBRATION, top_q=2, guess=7),
    "stages": lambda: figures.stages_figure(
        {"proof": made_verdict(ERRORS), "spoof": made_verdict({0: 0.2, 8: 0.7})}, CALIBRATION, **STAGES
    ),
    "window": lambda: figures.window_figure(TABLE, CALIBRATION, attempts=ATTEMPTS, chosen=16, guess=8, attack="a"),
    "map": lambda: figures.map_figure(TABLE, BREAK_EVEN, spoof_steps=32, threshold_scale=0.8),
    "editor": lambda: figures.editor_figure({"proof": made_verdict(ERRORS)}, CALIBRATION, **EDITOR),
    "grid": lambda: figures.grid_figure(CELLS, LEAST, METERS),
    "images": lambda: figures.images_figure(images(0), images(1)),
    "interval": lambda: figures.interval_figure(STEPS, threshold=0.52, update=3),
    "batch": lambda: figures.batch_figure(evaluated_images(), EVALUATED, iterations=2, share=0.7),
    "trace": lambda: figures.trace_figure(TRACE),
    "places": lambda: figures.places_figure(by_place(PLACES), 1e-3),
    "cost": lambda: figures.cost_figure(COSTS, PROOF_COST),
    "corollary": lambda: figures.corollary_figure(COROLLARY, threshold=0.3, guess=0.4),
    "order": lambda: figures.order_figure(*order(), "conv.weight"),
    "sorting": lambda: figures.sorting_figure(*order()[1:], STARTS, order="sorted", spread=2.0),
    "path": lambda: figures.path_figure(MODELS, PATH_OF_ERRORS, quantity="loss", threshold_scale=0.5),
    "momentum": lambda: figures.momentum_figure(momentum=0.5, interval=3),
}


@pytest.fixture(scope="module", params=MADE)
def made(request):
    return MADE[request.param]()


def numbers(values):
    return [] if values is None else np.asarray(values, float).tolist()


def drawn(figure, name, number=0):
    """x and y of the trace of this name (the first of them, or the one of that number)."""
    trace = [trace for trace in figure.plot.data if trace.name == name][number]
    return numbers(trace.x), numbers(trace.y)


def lines_of(figure):
    """Every horizontal and vertical line: ("x" or "y", value)."""
    return [
        ("y", shape.y0) if shape.y0 == shape.y1 else ("x", shape.x0)
        for shape in figure.plot.layout.shapes
        if shape.type == "line"
    ]


def texts_of(figure):
    return [note.text for note in figure.plot.layout.annotations]


def test_a_figure_is_a_plot_and_one_sentence(made):
    assert isinstance(made, figures.Figure)
    assert isinstance(made.plot, go.Figure)
    assert made.plot.data
    assert made.summary.endswith(".")
    assert "\n" not in made.summary
    assert made.summary.count(". ") == 0
    assert "nan" not in made.summary


def test_a_notebook_gets_the_plot_and_the_words(made):
    bundle = made._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.plotly.v1+json", "text/plain"}
    assert bundle["text/plain"] == made.summary
    plotly = json.loads(json.dumps(bundle, default=json_default))["application/vnd.plotly.v1+json"]
    assert len(plotly["data"]) == len(made.plot.data)
    assert "layout" in plotly


def look(trace):
    """What tells a trace apart besides its colour: the shape of its points, the dash of its line, a bar's pattern."""
    if trace.type == "bar":
        return ("bar", trace.marker.pattern.shape or "")
    mode = trace.mode or "lines+markers"
    symbol = (trace.marker.symbol or "circle") if "markers" in mode else None
    dash = (trace.line.dash or "solid") if "lines" in mode else None
    return symbol, dash


def test_traces_are_told_apart_by_more_than_colour(made):
    shown = [trace for trace in made.plot.data if trace.type in ("scatter", "bar") and trace.visible is not False]
    for one, other in combinations(shown, 2):
        if (one.xaxis, one.yaxis) == (other.xaxis, other.yaxis):
            assert look(one) != look(other), f"{one.name!r} and {other.name!r} differ in colour only"


def test_both_axes_of_every_subplot_say_what_they_show(made):
    if made.plot.data[0].type == "image":
        return
    layout = made.plot.layout
    for trace in made.plot.data:
        for letter in "xy":
            name = (trace[letter + "axis"] or letter).replace(letter, letter + "axis")
            axis = layout[name]
            shared = axis.matches and axis.showticklabels is False
            axis = layout[axis.matches.replace(letter, letter + "axis")] if shared else axis
            assert axis.title.text, f"{name} has no title"
            assert axis.title.text.strip(), f"{name} has no title"


def test_the_concept_shows_both_paths_and_which_replays_end_within_delta():
    task = miniature.miniature(steps=160, checkpoint_interval=20)
    path, figure = miniature.train(task, seed=0), MADE["concept"]()
    threshold = miniature.delta(task, path, 0, 2)
    assert drawn(figure, "training") == (path[:, 1].tolist(), path[:, 0].tolist())
    assert drawn(figure, "checkpoints W<sub>t</sub>") == (path[::20, 1].tolist(), path[::20, 0].tolist())
    forged = np.array(drawn(figure, "forged checkpoints")).T[:, ::-1]
    assert np.linalg.norm(np.diff(forged, axis=0), axis=1) == pytest.approx(np.linalg.norm(forged[8] - forged[0]) / 8)
    assert forged[8].tolist() == path[160].tolist()
    recorded = [np.array(drawn(figure, name)).T for name in ("W<sub>t</sub>", "forged W<sub>t</sub>")]
    centres = [recorded[0][1], recorded[1][2], recorded[1][3]]
    rings = np.array(drawn(figure, "δ around the recorded end")).T.reshape(3, -1, 2)[:, :-1]
    for ring, centre in zip(rings, centres, strict=True):
        assert np.hypot(*(ring - centre).T) == pytest.approx(threshold)
    ends = np.array(drawn(figure, "where a replay ends")).T
    assert ends[1:].tolist() == recorded[1][:2].tolist(), "a forger's batches move nothing"
    updates = np.array(drawn(figure, "k replayed updates")).T
    assert (updates[0].tolist(), updates[20].tolist()) == (recorded[0][0].tolist(), ends[0].tolist())
    assert np.hypot(*(updates[0] - centres[0])) == pytest.approx(np.linalg.norm(path[20] - path[40]))
    assert np.hypot(*(ends[0] - centres[0])) == pytest.approx(miniature.replay_errors(task, path, 0, 1)[1])
    off = [np.hypot(*(end - centre)) for end, centre in zip(ends, centres, strict=True)]
    assert off[1] == pytest.approx(np.linalg.norm(forged[1] - forged[0]))
    names = ("honest", "forged, few pieces", "forged, more pieces")
    for name, error, accepted in zip(names, off, (True, False, True), strict=True):
        assert (error <= threshold) == accepted
        word = "inside: accepted" if accepted else "outside: rejected"
        assert f"{name}<br><b>{word}</b>" in texts_of(figure)
        assert f"{name.replace(',', ' in')}, {spoken(error)} off, {word}" in figure.summary
    assert f"(δ = {spoken(threshold)})" in figure.summary


def test_the_surface_shows_the_path_the_replays_and_the_forgery():
    figure = MADE["surface"]()
    contour = figure.plot.data[0]
    for found, given in zip((contour.y, contour.x, np.transpose(contour.z)), GRID, strict=True):  # drawn across
        assert np.asarray(found).tolist() == given.tolist()
    for name, points in (
        ("training", PATH),
        ("checkpoints W<sub>t</sub>", PATH[[0, 4, 8, 12]]),
        ("replays W'<sub>t+k</sub>", REPLAYED),
        ("forged straight path", FORGED),
    ):
        assert drawn(figure, name) == (points[:, 1].tolist(), points[:, 0].tolist()), name
    rings = figure.plot.layout.shapes
    assert [ring.name for ring in rings if ring.showlegend] == ["δ around each forged checkpoint"]
    for (first, second), ring in zip(FORGED, rings, strict=True):
        assert ring.type == "circle"
        assert (ring.y0, ring.y1) == pytest.approx((first - 0.2, first + 0.2))
        assert (ring.x0, ring.x1) == pytest.approx((second - 0.2, second + 0.2))
    assert figure.plot.layout.yaxis.scaleanchor == "x"
    assert "straight line of 4 pieces" in figure.summary
    assert "2 of 4 exceed δ" in figure.summary
    farthest = np.hypot(*(REPLAYED - PATH[4::4]).T).max()
    assert f"end up to {spoken(farthest)} from the recorded checkpoints, all within δ = 0.2" in figure.summary
    strict = figures.surface_figure(
        GRID, PATH, REPLAYED, FORGED, interval=4, threshold=0.99 * farthest, forged_errors=np.array([0.1])
    )
    assert re.search(r"checkpoints, [123] of 3 above δ", strict.summary)
    fine = figures.surface_figure(
        GRID, PATH, REPLAYED, FORGED, interval=4, threshold=0.3, forged_errors=np.array([0.1, 0.3])
    )
    assert "every piece stays within δ" in fine.summary


@pytest.mark.parametrize(("update", "threshold", "within"), [(0, 0.9, True), (3, 0.52, False), (4, 0.5, True)])
def test_an_interval_shows_its_first_updates_and_the_ring_around_its_recorded_end(update, threshold, within):
    figure = figures.interval_figure(STEPS, threshold=threshold, update=update)
    along, beside, error = (STEPS[name].tolist() for name in ("along", "beside", "error"))
    assert drawn(figure, "replay") == (along[: update + 1], beside[: update + 1])
    assert drawn(figure, "recorded") == ([0, 0.8], [0, 0])
    for name, here in (("within δ", within), ("above δ", not within)):
        assert drawn(figure, name) == (([along[update]], [beside[update]]) if here else ([], []))
    ring = np.transpose(drawn(figure, "δ"))
    assert np.linalg.norm(ring - [0.8, 0], axis=1) == pytest.approx(threshold)
    assert (ring[:, 1] >= 0).all()
    assert figure.plot.layout.yaxis.scaleanchor == "x", "or the ring would be none"
    multiple = spoken(error[update] / threshold)
    assert f"after {update} of 4 updates: the replay is {spoken(error[update])} d_ref ({multiple} δ)" in figure.summary
    assert f"recorded end, {'within' if within else 'above'} δ;" in figure.summary


def test_where_delta_is_zero_an_interval_names_no_multiple_of_it():
    summary = figures.interval_figure(STEPS, threshold=0.0, update=4).summary
    assert "the replay is 0.5 d_ref from the recorded end, above δ" in summary


@pytest.mark.parametrize(
    ("evaluations", "share", "said"),
    [
        (0, 0.7, ("0 of 3 evaluations ‖∇‖² is as it was", "0 grey levels", "2 γ: it does not fit")),
        (1, 1.0, ("‖∇‖² is 2 times smaller", "1 grey levels", "0.9 γ: it fits")),
        (2, 1.0, ("‖∇‖² is 1.2 times larger", "2.5 grey levels", "1.1 γ: it does not fit")),
        (3, 0.7, ("‖∇‖² is 16 times smaller", "3 grey levels", "0.5 γ: it fits")),
    ],
)
def test_a_batch_under_attack_shows_its_images_and_a_point_for_each_evaluation(evaluations, share, said):
    pictures = evaluated_images()
    figure = figures.batch_figure(pictures, EVALUATED, iterations=evaluations, share=share)
    for name, values in (
        ("loss", EVALUATED["loss"]),
        ("‖∇‖²", EVALUATED["gradient_squared"]),
        ("update", EVALUATED["over_limit"] / share),
    ):
        x, y = drawn(figure, name)
        assert x == list(range(evaluations + 1))
        assert y == values[: evaluations + 1].tolist()
    assert ("y", 1) in lines_of(figure)
    (heat,) = [trace for trace in figure.plot.data if trace.type == "heatmap"]
    shown, (before, after) = np.asarray(heat.z), pictures[[0, evaluations], 1, 0].int().numpy()
    assert shown.shape == (27, 27)
    difference = np.clip(127 + 4 * (after - before), 0, 255)
    for row, expected in enumerate((before, after, difference)):  # of the second image
        assert shown[9 * row : 9 * row + 8, 9:17].tolist() == expected.tolist()
    for words in said:
        assert words in figure.summary


def test_the_growth_of_each_source_is_its_largest_error_over_the_starts():
    figure = figures.growth_figure(growth_table(), reference=10.0, chosen=5)
    for source, error in {"nothing": 0.0, "another thread": 1e-7, "redrawn augmentation": 0.1}.items():
        expected = [error * steps * 5 * 2 / 10 for steps in (1, 2, 5, 10)]  # from step 4; l2 is the second distance
        x, y = drawn(figure, source)
        (trace,) = [trace for trace in figure.plot.data if trace.name == source]
        assert x == [1, 2, 5, 10]
        assert numbers(trace.customdata) == pytest.approx(expected, abs=0)
        assert y == pytest.approx([max(value, 1e-9) for value in expected], abs=0)
        said = "exactly 0" if source == "nothing" else f"{expected[2]:.2g}"
        assert f"{source} {said}" in figure.summary
    assert "the largest errors in l2 (share of d_ref) at k = 5 are" in figure.summary
    assert "exactly 0, drawn at the bottom" in {note.text for note in figure.plot.layout.annotations}
    noisy = figures.growth_figure(growth_table().query("source != 'nothing'"), reference=10.0, guess=0.02)
    assert "exactly 0, drawn at the bottom" not in {note.text for note in noisy.plot.layout.annotations}
    assert ("x", 5) in lines_of(figure)
    assert "your prediction" not in {trace.name for trace in figure.plot.data}
    assert drawn(MADE["growth"](), "your prediction") == ([10], [0.02]), "at the most steps"


def test_a_source_that_ends_in_nan_is_not_said_to_err_by_a_small_number():
    table = growth_table()
    bad = (table["source"] == "another thread") & (table["start"] == 4) & (table["steps"] == 10)
    table.loc[bad, "error"] = math.nan
    assert "another thread nan" in figures.growth_figure(table, reference=1.0, chosen=10).summary


def test_the_size_is_drawn_in_megabytes():
    figure = MADE["size"]()
    assert drawn(figure, "(T/k + 1) · one checkpoint") == ([5, 10, 100], [80, 40, 4])
    assert drawn(figure, "recorded here") == ([10, 50], [41, 9])
    assert ("x", 10) in lines_of(figure)
    assert ("y", 30) in lines_of(figure)
    assert {"k = 10", "your prediction"} <= set(texts_of(figure))
    assert "80 MB at k = 5 and 4 MB at k = 100" in figure.summary
    plain = figures.size_figure(SIZES)
    assert drawn(plain, "recorded here") == ([], [])
    assert not lines_of(plain)


def split_by_hand(verdict, scale, top_q, parts):
    """Starts that are replayed within δ, replayed above it, and not replayed: interval by interval."""
    epochs = {}
    for row in verdict.intervals.itertuples():
        epochs.setdefault(row.epoch, {})[row.start] = row.magnitude
    chosen = set()
    for moves in epochs.values():
        ranked = sorted(moves, key=lambda start: -moves[start])
        chosen |= set(ranked if top_q == "all" else ranked[:top_q])
    good, bad = set(), set()
    for start in chosen:
        rows = verdict.intervals[verdict.intervals["start"] == start]
        within = all(
            row.error <= scale * LIMITS[row.part][row.distance] for row in rows.itertuples() if row.part in parts
        )
        (good if within else bad).add(start)
    return good, bad, set(verdict.intervals["start"]) - chosen


GROUPS = ("replayed, within δ", "replayed, above δ: rejected", "not replayed at this Q")


@pytest.mark.parametrize("parts", [PARTS, ("buffers",)])
@pytest.mark.parametrize(("scale", "top_q"), [(0.52, 2), (1.0, 1), (1.0, "all"), (4.0, "all")])
@pytest.mark.parametrize("errors", [ERRORS, WITH_GAPS], ids=["finite", "with NaN and infinity"])
def test_an_interval_is_drawn_where_a_plain_comparison_puts_it(errors, scale, top_q, parts):
    verdict = made_verdict(errors)
    figure = figures.verdict_figure(verdict, CALIBRATION, threshold_scale=scale, top_q=top_q, parts=parts)
    expected = split_by_hand(verdict, scale, top_q, parts)
    for name, starts in zip(GROUPS, expected, strict=True):
        x, y = drawn(figure, name)
        assert x == sorted(starts), name
        for start, ratio in zip(x, y, strict=True):
            multiple = errors[start] * (0.25 if parts == ("buffers",) else 1)
            if math.isfinite(multiple):
                assert ratio == pytest.approx(max(multiple, 1e-6))
            else:
                assert ratio > 10 * scale
                assert name != "replayed, within δ"
    good, bad, _ = expected
    replayed = len(good) + len(bad)
    assert figure.summary.startswith("rejected: " if bad else "accepted: ")
    known = " (of 16)" if replayed < 16 else ""
    assert (
        f"{len(bad)} of the {replayed} replayed intervals{known} {'lies' if len(bad) == 1 else 'lie'} above δ"
        in figure.summary
    )
    if len(bad) > 1:
        assert f"the last, steps {max(bad)} to {max(bad) + 1}" in figure.summary
    assert ("y", scale) in lines_of(figure)
    judged = verdict.under(CALIBRATION.scaled(scale)).at(top_q)
    if parts == PARTS:
        assert judged.accepted == (not bad)


def test_the_summary_of_a_verdict_names_the_largest_error():
    figure = figures.verdict_figure(made_verdict(ERRORS), CALIBRATION, threshold_scale=0.5)
    worst = max(ERRORS, key=ERRORS.get)
    assert f"the largest error is {ERRORS[worst] / 0.5:.2g} δ, in l2 of the weights, steps {worst} to {worst + 1}" in (
        figure.summary
    )


def test_a_nan_is_the_worst_of_all():
    worst = worst_ratios(made_verdict(WITH_GAPS), CALIBRATION)
    assert list(worst.columns) == ["start", "end", "epoch", "ratio", "distance", "part"]
    assert worst["start"].tolist() == list(range(16))
    by_start = worst.set_index("start")["ratio"]
    assert math.isnan(by_start[3])
    assert by_start[7] == math.inf
    assert by_start[9] == 0
    one_nan = made_verdict({0: 0.5, 1: 0.5})
    place = one_nan.intervals.index[(one_nan.intervals["start"] == 1) & (one_nan.intervals["distance"] == "linf")][0]
    one_nan.intervals.loc[place, "error"] = math.nan
    figure = figures.verdict_figure(one_nan, CALIBRATION)
    assert drawn(figure, "replayed, above δ: rejected")[0] == [1]
    assert figure.summary.startswith("rejected: 1 of the 2")
    assert "in linf of the weights, steps 1 to 2" in figure.summary


def test_a_threshold_of_zero_lets_only_an_error_of_zero_through():
    nothing = CALIBRATION.scaled(0.0)
    figure = figures.verdict_figure(made_verdict({0: 0.0, 1: 1e-9}), nothing)
    assert drawn(figure, "replayed, within δ")[0] == [0]
    assert drawn(figure, "replayed, above δ: rejected")[0] == [1]
    nan = figures.verdict_figure(made_verdict({0: math.nan, 1: 0.0}), nothing)
    assert drawn(nan, "replayed, above δ: rejected")[0] == [0]
    assert drawn(nan, "replayed, within δ")[0] == [1]


def test_what_a_verifier_found_besides_errors_rejects_and_is_said():
    others = (Reason("signature", "the batch of step 3"), Reason("initialisation", "W_0"))
    figure = figures.verdict_figure(made_verdict({0: 0.1}, others=others), CALIBRATION)
    assert figure.summary.startswith("rejected (found besides: initialisation, signature): 0 of the 1")
    empty = figures.verdict_figure(made_verdict({}, others=others), CALIBRATION)
    assert empty.summary == "rejected (found besides: initialisation, signature): no interval was replayed."
    assert all(drawn(empty, name) == ([], []) for name in GROUPS)


def test_a_predicted_step_is_a_line():
    figure = MADE["verdict"]()
    assert ("x", 7) in lines_of(figure)
    assert "your prediction" in texts_of(figure)


def test_each_stage_has_its_own_threshold():
    figure = MADE["stages"]()
    assert drawn(figure, "proof")[0] == pytest.approx([start / 16 for start in range(16)])
    assert drawn(figure, "proof")[1] == pytest.approx(list(ERRORS.values()))
    assert drawn(figure, "spoof") == ([0, pytest.approx(8 / 9)], pytest.approx([0.2, 0.7]))
    assert drawn(figure, "δ of the stage") == ([0, 0.5, 0.5, 1], [1, 1, 0.5, 0.5])
    above = sum(error > (1.0 if start < 8 else 0.5) for start, error in ERRORS.items())
    assert figure.summary == (
        f"with 1 δ from 0%, 0.5 δ from 50% of the steps on: proof: {above} of 16 intervals above their stage's δ; "
        "spoof: 1 of 2 intervals above their stage's δ."
    )


def test_the_editor_draws_the_path_that_keeps_to_the_stages():
    figure = MADE["editor"]()
    assert drawn(figure, "δ of the stage") == drawn(MADE["stages"](), "δ of the stage")
    assert drawn(figure, "evenly divided path", 0) == ([0, 80], [0.6, 0.6])
    assert drawn(figure, "evenly divided path", 1) == ([0, 1], [0.6, 0.6]), "beside the stages, over its own course"
    # Half of the way at δ, half at δ / 2: 48 steps become 64, all of them as long as their stage allows.
    assert drawn(figure, "path at the stages' pace") == ([0, 32, 32, 64], pytest.approx([1, 1, 0.5, 0.5]))
    assert figure.summary.endswith(
        "a path that keeps to them needs T' = 64 in place of 48 (× 1.33), its last intervals 0.5 δ long, at a cost of "
        "4 as interpolation only, 120 as Attack II, as shares of the proof's updates; "
        "evenly divided, T' = 80 makes intervals of 0.6 δ, enough for 1 of 2 stages."
    )


def test_a_nan_is_drawn_high_above_every_stage():
    figure = figures.stages_figure({"proof": made_verdict(WITH_GAPS)}, CALIBRATION, **STAGES)
    assert len(figure.plot.data[0].y) == 16
    for start in (3, 7):
        assert math.isfinite(figure.plot.data[0].y[start])
        assert figure.plot.data[0].y[start] > 10


def test_a_folder_that_was_not_replayed_has_no_marks_among_the_stages_and_says_why():
    refused = made_verdict({}, others=[Reason("task", "manifest.json claims 20 steps")])
    figure = figures.stages_figure({"proof": made_verdict(ERRORS), "spoof": refused}, CALIBRATION, **STAGES)
    assert "spoof" not in [trace.name for trace in figure.plot.data]
    assert figure.summary.endswith("; spoof: not replayed, since manifest.json claims 20 steps.")


def test_the_window_shows_error_and_cost_over_the_length():
    figure = MADE["window"]()
    assert drawn(figure, "error, closed form") == (LENGTHS.tolist(), pytest.approx([4, 2, 1, 0.5, 0.25]))
    assert drawn(figure, "cost, a") == (LENGTHS.tolist(), pytest.approx((LENGTHS * 1.5 / 64).tolist()))
    assert drawn(figure, "Attack II, accepted", 0) == ([32], [pytest.approx(0.5)])
    assert drawn(figure, "Attack II, accepted", 1) == ([32], [0.7])
    assert drawn(figure, "Attack III, rejected", 0) == ([8], [pytest.approx(2.5)])
    assert drawn(figure, "Attack III, rejected", 1) == ([8], [0.2])
    assert {"T' = 16", "your prediction", "δ", "the honest proof"} <= set(texts_of(figure))
    shaded = [(shape.x0, shape.x1) for shape in figure.plot.layout.shapes if shape.type == "rect" and shape.opacity]
    assert set(shaded) == {window_edges(TABLE)} == {(16, 32)}
    assert len(shaded) == 2
    assert figure.summary == (
        "by the closed form spoofing passes and pays for T' from 16 to 32: the path is fine enough for δ from T' = 16, "
        "and cheaper than the proof up to T' = 32."
    )


@pytest.mark.parametrize(
    ("scale", "top_q", "accepted"), [(1.0, "all", [32]), (3.0, "all", [8, 32]), (1.0, 1, [8, 32]), (0.4, "all", [])]
)
def test_a_spoof_is_drawn_as_the_verifier_of_this_delta_and_q_finds_it(scale, top_q, accepted):
    """At Q = 1 the interval from step 4 of the spoof in 8 steps, whose update is smaller, is not replayed."""
    magnitudes = {0: 5.0, 4: 1.0}
    attempts = [
        Attempt(
            made.attack,
            made.spoof_steps,
            made.interval,
            replace(
                made.verdict,
                intervals=made.verdict.intervals.assign(magnitude=made.verdict.intervals["start"].map(magnitudes)),
            ),
            made.cost,
        )
        for made in ATTEMPTS
    ]
    table = window(PATH_ERRORS, CALIBRATION, proof_steps=64, cost_per_step=1.5, threshold_scale=scale)
    figure = figures.window_figure(
        table, CALIBRATION, attempts=attempts, threshold_scale=scale, top_q=top_q, attack="a"
    )
    found = {
        trace.name: list(trace.x)
        for trace in figure.plot.data
        if trace.name.startswith("Attack") and not trace.yaxis[1:]
    }
    assert sorted(x for name, xs in found.items() for x in xs if name.endswith("accepted")) == accepted
    assert sorted(x for xs in found.values() for x in xs) == [8, 32]


@pytest.mark.parametrize(
    ("errors", "others"), [({0: 0.2, 4: math.nan}, ()), ({0: 0.2}, (Reason("initialisation", "W_0"),))]
)
def test_a_spoof_with_a_nan_or_rejected_for_something_else_is_not_drawn_as_accepted(errors, others):
    bad = Attempt("Attack II", 32, 4, made_verdict(errors, others=others, interval=4), 0.7)
    figure = figures.window_figure(TABLE, CALIBRATION, attempts=[bad], attack="a")
    assert drawn(figure, "Attack II, rejected")[0] == [32]
    assert drawn(figure, "Attack II, accepted")[0] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"cost_per_step": 6.0},
            "shut: the path is fine enough for δ from T' = 16, and cheaper than the proof up to T' = 8.",
        ),
        (
            {"threshold_scale": 0.1},
            "shut: the path is never fine enough for δ here, and cheaper than the proof up to T' = 32.",
        ),
        ({"cost_per_step": 100.0}, "shut: the path is fine enough for δ from T' = 16, and never cheaper here."),
    ],
)
def test_a_window_that_is_shut_is_said_to_be_and_nothing_is_shaded(change, words):
    table = window(PATH_ERRORS, CALIBRATION, **{"proof_steps": 64, "cost_per_step": 1.5} | change)
    figure = figures.window_figure(table, CALIBRATION, attack="a")
    assert words in figure.summary
    assert not [shape for shape in figure.plot.layout.shapes if shape.type == "rect" and shape.opacity]


def test_the_map_says_what_holds_at_a_point_and_by_which_margin():
    figure = MADE["map"]()
    assert drawn(figure, "least δ that accepts the path") == (LENGTHS.tolist(), pytest.approx([4, 2, 1, 0.5, 0.25]))
    assert drawn(figure, "Attack II costs as much as the proof")[0] == [40, 40]
    assert drawn(figure, "the chosen point") == ([32], [0.8])
    assert figure.summary == (
        "the path passes, 1.6 times finer than δ needs (l1 decides); interpolation only pays, at 0.5 of the proof; "
        "Attack II pays, at 0.8 of the proof; at this δ a path passes from T' = 32; the window is open for "
        "interpolation only, Attack II."
    )


@pytest.mark.parametrize(
    ("length", "scale", "words"),
    [
        (16, 0.5, "the path fails, 2 δ long (l1 decides)"),
        (64, 1.0, "Attack II does not pay, at 1.6 of the proof"),
        (64, 0.26, "at this δ a path passes from T' = 64; the window is open for nobody."),
        (64, 0.1, "at this δ a path passes at no length shown; the window is open for nobody."),
    ],
)
def test_what_fails_or_does_not_pay_is_said(length, scale, words):
    assert words in figures.map_figure(TABLE, BREAK_EVEN, spoof_steps=length, threshold_scale=scale).summary


def test_more_spoofs_than_colours_are_all_drawn():
    costs = {f"spoof {number}": PROOF_COST for number in range(8)}
    figure = figures.cost_figure(costs, PROOF_COST)
    assert [trace.name for trace in figure.plot.data] == list(costs)
    assert figure.summary.count("; ") == 7


def test_the_grid_has_a_shape_for_how_many_trainings_accepted():
    figure = MADE["grid"]()
    assert drawn(figure, "accepted in every training") == ([16], [1.0])
    assert drawn(figure, "accepted in some") == ([8, 16], [1.0, 0.5])
    assert drawn(figure, "accepted in none") == ([8], [0.5])
    assert drawn(figure, "closed form") == ([8, 16], [1.5, 0.5])
    assert drawn(figure, "break-even, in measured operations")[0] == [60, 60]
    assert figure.summary == (
        "closed form and measurement agree in 8 of 12 cells; Attack II: some length passes in every training from "
        "δ × 1; it costs as much at T' = 20 as the paper counts, 60 in measured operations."
    )


def test_the_difference_is_shown_magnified_around_grey():
    before = images(0).clamp(20, 235)
    change = torch.randint(-9, 10, before.shape, generator=torch.Generator().manual_seed(3))
    change.view(-1)[:2] = torch.tensor([9, -9])
    figure = figures.images_figure(before, (before.int() + change).to(torch.uint8))
    strips = [np.asarray(image.z).reshape(8, 3, 9, 3) for image in figure.plot.data]  # row, picture, column, channel
    for strip in strips:
        assert (strip == strip[..., :1]).all(), "grey"
        assert (strip[:, :, 8] == 255).all(), "a gap after each picture"
    first, second, difference = (strip[:, :, :8, 0].transpose(1, 0, 2).astype(int) for strip in strips)
    assert (first == before[:, 0].numpy()).all()
    assert (second - first == change[:, 0].numpy()).all()
    assert np.abs(difference - np.clip(127 + 127 / 9 * change[:, 0].numpy(), 0, 255)).max() < 1
    mean, moved = change.abs().double().mean(), (change != 0).double().mean()
    assert "3 images before and after; the largest change of a pixel is 9 of 255 grey levels" in figure.summary
    assert f"the mean {mean:.2g}; {moved:.0%} of the pixels changed" in figure.summary
    assert f"difference × {127 / 9:.3g}" in texts_of(figure)


def test_images_in_colour_keep_their_channels_and_equal_images_differ_by_grey():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (2, 3, 40, 40), generator=generator, dtype=torch.uint8)
    figure = figures.images_figure(pictures, pictures)
    shown = np.asarray(figure.plot.data[0].z)
    assert (shown[:, :40] == pictures[0].permute(1, 2, 0).numpy()).all()
    assert (shown[:, 41:81] == pictures[1].permute(1, 2, 0).numpy()).all()
    assert (np.asarray(figure.plot.data[2].z)[:, :40] == 127).all()
    assert "the largest change of a pixel is 0 of 255" in figure.summary
    assert "0% of the pixels" in figure.summary


def test_the_trace_shows_the_treated_batches_before_and_after():
    figure = MADE["trace"]()
    for number, quantity in enumerate(("loss", "gradient_squared")):
        for when in ("before", "after"):
            values = [TRACE[f"{quantity}_{when}"][row] for row in (0, 2, 3)]
            assert drawn(figure, when, number) == ([0, 2, 3], [max(value, 1e-9) for value in values])
    assert figure.summary == (
        "over 3 treated batches the mean loss goes from 2 to 0.2, the mean squared gradient norm from 6 to 0.03."
    )
    assert figures.trace_figure(TRACE, "interval").summary.startswith("over 3 treated intervals the mean loss")
    for untouched in (TRACE.assign(evaluations=0), pd.DataFrame({"step": [0, 1], "evaluations": 0})):
        assert "no batch needed treatment" in figures.trace_figure(untouched).summary


def test_the_places_show_the_gradient_at_one_noise_weight_and_the_drop_at_all_of_them():
    figure = MADE["places"]()
    kept = ", trained normalisation kept in W<sub>0</sub>"
    for name, values in (
        ("before", [8, 2]),
        ("after", [2, 0.1]),
        (f"before{kept}", [6, 1]),
        (f"after{kept}", [1.5, 0.02]),
    ):
        assert drawn(figure, name) == ([0, 0.4], values)
    assert drawn(figure, "at 0 of the path") == ([20, 30], [8, 4])  # under the last weight no pixel changed
    assert drawn(figure, "at 0.4 of the path") == ([22, 32, 50], pytest.approx([100, 20, 2]))
    assert {"noise weight 0.001", "noise weight 0 to 1"} <= set(texts_of(figure))
    assert figure.summary == (
        "at noise weight 0.001 the mean squared gradient falls 4-fold at 0 of the path (30 dB), "
        "20-fold at 0.4 of the path (32 dB)."
    )


def test_where_the_examples_decide_each_attack_has_its_range_and_its_count():
    ratios = {("Attack II", 100): [0.5, 0.9], ("Attack II", 200): [0.4, 0.6], ("interpolation only", 100): [1.5, 2.5]}
    rows = [(attack, steps, ratio, ratio <= 1) for (attack, steps), found in ratios.items() for ratio in found]
    figure = figures.examples_figure(pd.DataFrame(rows, columns=["attack", "spoof_steps", "ratio", "accepted"]))
    drawn = {trace.name: trace for trace in figure.plot.data}
    assert list(drawn["Attack II"].x) == pytest.approx([100, 200], rel=0.02)  # each beside the others
    assert list(drawn["Attack II"].y) == [0.7, 0.5]
    assert list(drawn["Attack II"].error_y.array) == pytest.approx([0.2, 0.1])
    assert list(drawn["interpolation only"].error_y.arrayminus) == [0.5]
    assert (
        figure.summary == "Attack II was accepted in 4 of 4 spoofs; interpolation only was accepted in 0 of 2 spoofs."
    )


def test_the_cost_is_a_share_of_the_proofs_in_four_meters():
    figure = MADE["cost"]()
    for bar, shares in zip(figure.plot.data, ([0.5, 0.3, 0.4, 1.1], [0.05, 0.25, 0.2, 0.5]), strict=True):
        assert len(bar.x) == 4
        assert numbers(bar.y) == pytest.approx(shares)
    assert [bar.name for bar in figure.plot.data] == list(COSTS)
    assert ("y", 1) in lines_of(figure)
    assert "Attack II 0.5 of the gradient evaluations, 0.3 of the floating point operations, 0.4 of the wall" in (
        figure.summary
    )
    assert "Attack III 0.05 of the gradient evaluations" in figure.summary
    assert "0.5 of the stored bytes." in figure.summary


def test_the_corollary_shows_the_gap_and_both_bounds():
    figure = MADE["corollary"]()
    assert drawn(figure, "measured gap") == ([2, 5, 10], [0.02, 0.2, 0.6])
    assert drawn(figure, "bound, corrected") == ([2, 5, 10], [0.1, 1.0, 5.0])
    assert drawn(figure, "bound, as printed") == ([5, 10], [0.3, 0.5])
    assert drawn(figure, "your prediction") == ([10], [0.4])
    assert ("y", 0.3) in lines_of(figure)
    assert figure.summary == (
        "at k = 10 the measured gap is 0.6, the corrected bound 5, the printed one 0.5; the gap exceeds the printed "
        "bound at k = 2, 10; the gap is above δ, which is 0.3."
    )
    chosen = figures.corollary_figure(COROLLARY, threshold=0.3, chosen=5)
    assert chosen.summary.startswith("at k = 5 the measured gap is 0.2, the corrected bound 1, the printed one 0.3;")
    assert chosen.summary.endswith("the gap is within δ, which is 0.3.")
    assert ("x", 5) in lines_of(chosen)
    unknown = figures.corollary_figure(COROLLARY, threshold=0.3, chosen=7)
    assert unknown.plot == figures.corollary_figure(COROLLARY, threshold=0.3).plot
    held = figures.corollary_figure(COROLLARY.assign(bound_as_printed=9.0), threshold=0.3)
    assert "exceeds the printed bound at k = none of these" in held.summary


def test_the_order_of_a_draw_is_shown_element_by_element():
    first, fresh, final = order()
    figure = MADE["order"]()
    pairs = {"sorted draw": first, "fresh draw": fresh}
    for name, start in pairs.items():
        x, y = drawn(figure, name)
        assert len(x) == 400
        whole = dict(zip(final.flatten().tolist(), start.flatten().tolist(), strict=True))
        assert [whole[value] for value in x] == y
        correlation = np.corrcoef(final.flatten(), start.flatten())[0, 1]
        assert f"{correlation:.2f}" in figure.summary
    assert "for the sorted draw and" in figure.summary
    few = figures.order_figure(first[:1, :7], fresh[:1, :7], final[:1, :7], "bias")
    assert sorted(drawn(few, "sorted draw")[0]) == sorted(final.flatten()[:7].tolist())


def test_sorting_changes_no_histogram_and_the_spread_does():
    _, fresh, final = order()
    settings = {"order": "as drawn", "spread": 1.0}
    right, sorted_too, wide = (
        figures.sorting_figure(fresh, final, STARTS, **settings | change)
        for change in ({}, {"order": "sorted"}, {"spread": 2.0})
    )
    names = ("W<sub>0</sub>", "a true draw", "W<sub>T</sub>")
    assert drawn(right, names[0]) == drawn(right, names[1]) == drawn(sorted_too, names[0])
    for name, values in zip(names, (2 * fresh, fresh, final), strict=True):
        edges, shares = drawn(wide, name)
        inside = [float(((values >= low) & (values < high)).float().mean()) for low, high in pairwise(edges)]
        assert shares[:-1] == pytest.approx(inside, abs=2e-3)  # a value on an edge
    for figure, at in ((right, (1.0, 0.9)), (sorted_too, (1.0, 0.3)), (wide, (2.0, 1.3))):
        assert drawn(figure, "shown") == ([at[0]], [at[1]])
    (line,) = [trace for trace in wide.plot.data if trace.name == "sorted"]
    assert (list(line.y), list(line.marker.symbol)) == ([0.4, 0.3, 0.5], ["x", "circle", "x"])
    assert wide.summary == (
        "as drawn, with 2 times the right spread, W_0 is 1.30 d_ref (l2) from W_T; the initialisation test rejects 8 "
        "of its tensors."
    )
    assert sorted_too.summary.endswith("W_0 is 0.30 d_ref (l2) from W_T; the initialisation test passes it.")


def test_the_path_is_shaded_where_batches_as_they_are_err_by_more_than_delta():
    figure = MADE["path"]()
    shaded = [(shape.x0, shape.x1, shape.label.text) for shape in figure.plot.layout.shapes if shape.type == "rect"]
    assert shaded == [(0, 0.25, "✓"), (0.75, 1, "✕")], "0.5 is within half of δ, NaN is not"
    assert drawn(figure, "models on the path") == ([0, 0.5, 1], [2, 0.5, 0.01])
    assert drawn(figure, "Attack II") == ([0.125, 0.375, 0.625, 0.875], [0.5, 0.4, 0.2, 0.8])
    assert figure.summary == (
        "with δ × 0.50, 2 of 4 intervals need perturbed batches, which suffice in 1 of them; loss goes from 2 at W_0 "
        "to 0.01 at W_T."
    )
    for quantity, kind in (("accuracy", "linear"), ("‖∇‖²", "log")):
        other = figures.path_figure(MODELS, PATH_OF_ERRORS, quantity=quantity, threshold_scale=1.0)
        column = {"accuracy": "accuracy", "‖∇‖²": "gradient_squared"}[quantity]
        assert drawn(other, "models on the path")[1] == MODELS[column].tolist()
        assert (other.plot.layout.yaxis.type, other.plot.layout.yaxis.title.text) == (kind, quantity)


@pytest.mark.parametrize(("momentum", "interval"), [(0.5, 3), (0.9, 10), (0.99, 1)])
def test_borrowed_momentum_covers_what_an_optimiser_without_gradients_does(momentum, interval):
    weight = torch.tensor([0.0], requires_grad=True)
    optimiser, rate = torch.optim.SGD([weight], lr=0.1, momentum=momentum), 0.1
    v = 1 / (rate * sum(momentum**i for i in range(1, interval + 1)))  # the chapter's, from W_t = 0 to W_t+k = -1
    optimiser.state[weight]["momentum_buffer"] = torch.tensor([v])
    reached = [0.0]
    for _ in range(interval):
        weight.grad = torch.zeros(1)
        optimiser.step()
        reached.append(-float(weight.detach()))
    figure = figures.momentum_figure(momentum=momentum, interval=interval)
    x, y = drawn(figure, "borrowed momentum")
    assert x == list(range(interval + 1))
    assert y == pytest.approx(reached, abs=1e-6)
    assert y[-1] == pytest.approx(1)
    assert figure.summary.startswith(f"v is {spoken(v * rate)} times (W_t − W_t+k) / η; the first of {interval}")
    half = next(step for step, share in enumerate(reached) if share >= 0.5)
    assert f"{reached[1]:.0%} of the way, and after {half} at least" in figure.summary


def test_a_logarithmic_axis_has_labels_however_narrow():
    for most, step in ((0.045, "D1"), (0.45, "D2"), (45, 1)):
        axis = logarithmic(go.Figure(go.Scatter(y=[0.021, most]))).layout.yaxis
        assert (axis.type, axis.dtick) == ("log", step)
    rows = MADE["window"]().plot.layout
    assert (rows.yaxis.type, rows.yaxis2.type, rows.xaxis.type, rows.xaxis2.type) == ("log",) * 4


def test_a_name_stands_at_its_line_on_a_logarithmic_axis():
    (note,) = [note for note in MADE["size"]().plot.layout.annotations if note.text == "your prediction"]
    assert note.y == pytest.approx(math.log10(30))
    (note,) = [note for note in MADE["window"]().plot.layout.annotations if note.text == "T' = 16"]
    assert note.x == pytest.approx(math.log10(16))
    (note,) = [note for note in MADE["verdict"]().plot.layout.annotations if note.text == "your prediction"]
    assert note.x == 7


def test_lengths_are_shaded_where_every_spoof_was_accepted_and_not_between():
    averages = published("digits/averages")
    of_attack = (averages["attack"] == "attack_2") & (averages["task"] == "digits")
    accepted = of_attack & (averages["value"] == "accepted.all")
    averages.loc[accepted, "mean"] = averages.loc[accepted, "spoof_steps"].isin([70, 90, 200]).astype(float)
    plot = lengths_figure(averages, "attack_2", "digits").plot
    shaded = {(shape.x0, shape.x1) for shape in plot.layout.shapes if shape.type == "rect"}
    assert shaded == {(70 / 1.03, 90 * 1.03), (200 / 1.03, 200 * 1.03)}
