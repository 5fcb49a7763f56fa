"""What proving costs: the slope of the measured steps, carried to the paper's training."""

import nbformat
import pandas as pd
import pytest

from polkit.book.chapters import appendices
from polkit.book.figures import proving_figure
from polkit.defences.snark import seconds_per_operation
from polkit.experiments.published import paper_data, published


def made_steps(slope, fixed=1.0):
    rows = [
        {
            "features": features,
            "batch_size": batch,
            "freivalds": freivalds,
            "operations": 40 * batch * features,
            "prove_seconds": fixed + slope * 40 * batch * features / (1 + 9 * freivalds),
            "native_seconds": 1e-5,
            "proof_bytes": 1.0,
            "verify_seconds": 1.0,
        }
        for freivalds in (False, True)
        for features, batch in ((16, 4), (64, 4), (64, 16))
    ]
    return pd.DataFrame(rows)


def extrapolation(steps, operations):
    """What the cell of appendix H makes of measured steps."""
    (file,) = [file for file in appendices() if file.stem.startswith("H_")]
    (code,) = [
        cell.source for cell in nbformat.read(file, as_version=4).cells if "seconds_per_operation(mine)" in cell.source
    ]
    found = {"steps": steps, "operations": operations}
    exec(code, found)
    return found["table"]


def test_the_extrapolation_is_the_slope_times_the_operations_of_all_steps():
    steps = made_steps(slope=1e-4)
    table = extrapolation(steps, operations=10**10)
    assert table["step_seconds"][:2].tolist() == pytest.approx([1e6, 1e5])
    assert table["years"][:2].tolist() == pytest.approx([7.8e10 / (365.25 * 86400), 7.8e9 / (365.25 * 86400)])
    others = table.iloc[2:].reset_index(drop=True)
    assert others["prover"].tolist() == paper_data("verifiable_computation")["prover"].tolist()
    full = extrapolation(steps, operations=10**10).set_index("prover")
    assert full["years"]["Kaizen, quicker figure"] == pytest.approx(2.2, abs=0.05)  # 78,000 times 15 minutes
    with pytest.raises(ValueError, match="two sizes of batch"):
        seconds_per_operation(steps[steps["batch_size"] == 4])


def test_the_published_measurement_spans_a_decade_and_proving_is_dear():
    steps = published("snark/steps")
    assert (steps["operations"] == 4 * steps["batch_size"] * steps["features"] * steps["classes"]).all()
    assert steps["operations"].max() >= 10 * steps["operations"].min()
    assert (steps["prove_seconds"] > 10_000 * steps["native_seconds"]).all()


def test_the_figure_draws_what_was_measured_and_goes_on_to_the_training():
    steps = made_steps(slope=1e-4)
    figure = proving_figure(steps, operations=10**10)
    drawn = {trace.name: trace for trace in figure.plot.data if trace.name}
    proved = drawn["every multiplication proved"]
    mine = steps[~steps["freivalds"].astype(bool)].sort_values("operations")
    assert (list(proved.x), list(proved.y)) == (mine["operations"].tolist(), mine["prove_seconds"].tolist())
    ends = [(trace.x[-1], trace.y[-1]) for trace in figure.plot.data if trace.line.dash == "dot"]
    assert ends == [pytest.approx((1e10, 1e6), rel=1e-4), pytest.approx((1e10, 1e5), rel=1e-4)]
    assert "that is 2,500 years, or 250 with" in figure.summary
