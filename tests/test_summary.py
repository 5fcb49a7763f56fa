"""What a batch found, as tables: written, published, and shown in the README."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from polkit.book.figures import matrix_figure
from polkit.defences import PRESETS
from polkit.experiments.gallery import SPOOFS
from polkit.experiments.matrix import (
    COLUMNS,
    CORRECTED,
    HONEST,
    RECOMMENDED,
    VERIFIERS,
    accepted_by_all,
    always,
    costs_of_verifiers,
    matrix_counts,
    never,
    repeats_of,
    spoof_names,
)
from polkit.experiments.published import published, published_folder
from polkit.experiments.retraining import RETRAINING
from polkit.experiments.window import spoof_rows
from polkit.reproduce import judged_claims, reproduce, summarise, summary
from polkit.reproduce.claims import RULES
from polkit.reproduce.records import PARAMETERS, averaged, write_record
from polkit.reproduce.summary import matrix_tables, presets_tables
from tests.batches import batch_of_runs, record
from tests.readme import of_twenty, refresh, shown_in, table

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"epochs": 10, "train_size": 640, "checkpoint_interval": 5}


def test_the_colour_run_names_its_images_by_no_path():
    runs, folder = published("folder-32x32/runs"), published_folder() / "folder-32x32"
    assert set(runs["task"]) == {"folder:colour"}
    assert set(runs["precision"]) == {"bf16"}
    assert {"interpolation_only", "attack_2"} <= set(runs["attack"])
    assert "/" not in "".join((folder / name).read_text() for name in ("runs.csv", "averages.csv"))


def test_published_results_are_whole_and_name_their_machine():
    runs, known, claims = (published(f"digits/{name}") for name in ("runs", "averages", "claims"))
    made_on = json.loads((published_folder() / "digits" / "made_on.json").read_text())
    assert len(runs) == made_on["runs"]
    assert {"processor", "cores", "gpu", "system"} == set(made_on["machines"][0])
    assert set(claims["claim"]) == set(RULES)
    repeated = averaged(runs)
    assert len(repeated) == len(known)
    np.testing.assert_allclose(repeated["mean"], known["mean"], rtol=1e-4)
    paper = published("digits/runs_paper")
    assert set(paper["regime"]) == {"paper"}
    assert paper.loc[paper["experiment"] == "honest", "interval"].unique().tolist() == [100]  # the paper's k
    assert sorted(paper["seed"].unique()) == [*range(5)]
    again = judged_claims(pd.concat([runs, paper], ignore_index=True))
    for name in ("holds_paper", "holds_strict"):
        assert (
            again[name].map(str, na_action="ignore").fillna("").tolist()
            == claims[name].map(str, na_action="ignore").fillna("").tolist()
        )


def test_the_readme_shows_the_published_results():
    assert shown_in(ROOT / "README.md") == table()


def test_the_numbers_in_the_readmes_findings_are_those_of_the_published_runs():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    claims, runs = published("digits/claims"), published("digits/runs")
    held = {name: (claims[f"holds_{name}"].astype(str) == "True").sum() for name in ("paper", "strict")}
    assert f"{held['paper']} of {len(claims)} claims hold on `digits` ({held['strict']} in point 3's" in text
    papers, decided = (spoof_rows(published(f"{where}/runs_paper")) for where in ("digits", "examples"))
    treated = published("digits/runs_paper").query("attack == 'attack_2' and stopping_test == True")
    treated = treated.groupby("adversary_half", dropna=False)[["batches.treated", "batches.all"]].sum()
    own, other = (f"{share:.1%}" for share in treated["batches.treated"] / treated["batches.all"])
    assert f"Attack II perturbs {own} of batches ({other} with other images)" in text
    passed = {name: set(mine.loc[mine["accepted"], "spoof_steps"]) for name, mine in papers.groupby("attack")}
    assert passed["Attack II"] == passed["interpolation only"]
    decided = decided[decided["spoof_steps"] == 1300]
    counted = decided.groupby("attack")["accepted"].agg(["sum", "count"])
    perturbed, plain = ("{} of {}".format(*counted.loc[name]) for name in ("Attack II", "interpolation only"))
    assert f"Attack II passes in {perturbed} trainings and unmodified data in {plain}" in text
    cost = decided.loc[decided["attack"] == "Attack II", "cost"]
    assert f"Such spoofs cost {cost.min():.2f} to {cost.max():.2f} of the proof's operations" in text
    fashion = examples_on_fashion().loc[0.08]
    passed, cost = fashion["accepted"].groupby("attack").sum(), fashion.loc["Attack II", "cost"]
    shown = f"{passed['Attack II']} and {passed['interpolation only']} of 5, {cost.min():.2f} to {cost.max():.2f}"
    stored = published("examples-fashion/runs_paper").query("attack == 'attack_2'")["share.stored_bytes"]
    assert f"(`fashion`, spoofs of k = 1 at 1.6 times the rate: {shown}, but {stored.mean():.2f} of its bytes)" in text
    plain, trained = (of_twenty("interpolation_only", steps) for steps in (0, 20))
    assert f"unmodified data pass in {plain['accepted'].sum()} of {len(plain)} trainings, and in" in text
    assert f"in {trained['accepted'].sum()} if the first 20 steps are trained" in text
    on_fashion = spoof_rows(published("fashion-strict/runs"), task="fashion", parts=("weights", "buffers"))
    assert not on_fashion["accepted"].any()
    assert f"(`fashion`, two lengths: none of {len(on_fashion)} spoofs.)" in text
    made = (runs["attack"] == "borrowed_momentum") & (runs["spoof_steps"] == 40)
    borrowed = runs.loc[made, "share.floating_point_operations"].mean()
    assert f"costs {borrowed:.2f} of the proof's operations" in text


def test_where_the_examples_decide_they_do_in_eighteen_of_twenty_trainings():
    """At each length from 1,200 on; for at most half of the operations at 1,300, the last of the four to be made."""
    made = spoof_rows(published("examples/runs_paper")).query("spoof_steps >= 1200")
    by_length = made.groupby(["attack", "spoof_steps"])
    assert (by_length["seed"].nunique() == 20).all()
    accepted = by_length["accepted"].sum()
    assert accepted[["Attack II", "Attack III"]].min() >= 18
    assert accepted["interpolation only"].max() <= 2
    made = made.query("spoof_steps == 1300")
    passed = made[made["accepted"] & (made["cost"] <= 0.5)].groupby("attack").size()
    assert min(passed["Attack II"], passed["Attack III"]) >= 18
    assert passed.get("interpolation only", 0) <= 2


def test_spoofs_of_the_papers_own_k_pass_only_with_a_trained_first_interval():
    made = spoof_rows(published("k-100/runs_paper"))
    accepted = made.groupby(["trained_steps", "attack"])["accepted"].agg(["sum", "count"])
    assert (accepted["count"] == 5).all()
    assert (accepted.loc[0, "sum"] == 0).all()
    assert (accepted.loc[100, "sum"] == 5).all()


def examples_on_fashion():
    """Five trainings' spoofs, by the rate that they claim and by attack."""
    made = spoof_rows(published("examples-fashion/runs_paper"), task="fashion").set_index(
        ["spoof_learning_rate", "attack"]
    )
    assert (made.groupby(level=[0, 1])["seed"].nunique() == 5).all()
    return made.sort_index()


def test_on_fashion_they_decide_in_every_training_for_half_of_the_proofs_operations_at_most():
    made = examples_on_fashion()
    passed = made.groupby(level=[0, 1])["accepted"].sum()
    assert passed[0.08].to_dict() == {"Attack II": 5, "Attack III": 5, "interpolation only": 0}
    assert (passed[0.05] == 5).all()
    assert made["cost"].max() <= 0.5


def test_the_readmes_table_stands_between_its_marks(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# a\n<!-- results: begin -->\nold\n<!-- results: end -->\nb\n")
    refresh(readme, "| new |")
    assert readme.read_text() == "# a\n<!-- results: begin -->\n| new |\n<!-- results: end -->\nb\n"
    assert shown_in(readme) == "| new |"
    readme.write_text("# no marks\n")
    with pytest.raises(ValueError, match="must have one line '<!-- results: begin -->'"):
        refresh(readme, "| new |")


def test_the_matrix_of_a_folder_of_images_does_not_say_where_it_lies():
    values = {"accepted.honest proof.recommended": True, "steps.honest proof": 8, "errors.honest proof.tight": 0.5}
    found = matrix_tables([record("matrix", {"task": "folder:/home/me/pets", "seed": 0}, values)])
    assert {task for table in found.values() for task in table["task"]} == {"folder:pets"}


def test_the_matrix_counts_in_how_many_repeats_a_folder_was_accepted(tmp_path):
    accepted = {
        f"accepted.{folder}.{defence}": True
        for folder in ("honest proof", "Attack II")
        for defence in (CORRECTED, *COLUMNS)
    }
    costs = {"steps.Attack II": 140, "share.Attack II.floating_point_operations": 0.1, "errors.Attack II.tight": 500.0}
    second = accepted | {"accepted.Attack II.every interval": False, "accepted.Attack II.recommended": False}
    third = second | {"accepted.Attack II.every interval": True}
    records = {
        str(number): record("matrix", {"task": "digits", "seed": number}, values)
        for number, values in enumerate(
            (
                accepted | {"accepted.Attack II.recommended": False} | costs,
                second | costs,
                third | costs | {"share.Attack II.floating_point_operations": 0.4, "errors.Attack II.tight": 200.0},
            )
        )
    }
    records["other"] = record("spoof", {"task": "digits"}, accepted)
    records["failed"] = record("matrix", {"task": "digits"}, accepted, "failed")
    found = matrix_tables([each for each in records.values() if each.finished and each.experiment == "matrix"])
    cells = found["matrix"]
    assert found["matrix_errors"].to_dict("records") == [{"task": "digits", "folder": "Attack II", "tight": 400.0}]
    counts = matrix_counts(cells)
    assert counts.index.tolist() == ["honest proof", "Attack II"]
    assert counts["every interval"].tolist() == [3, 2]
    assert counts["recommended"].tolist() == [3, 0]
    assert counts.columns.tolist() == [CORRECTED, *COLUMNS]
    assert repeats_of(cells) == 3
    with pytest.raises(ValueError, match=r"counts over \[3, 4\] repeats"):
        repeats_of(pd.concat([cells, cells.assign(repeats=4)]))
    figure = matrix_figure(counts, 3)
    # The honest row is on the blue side of the scale, below 0.
    assert figure.plot.data[0].z.tolist() == (counts.to_numpy() / 3 * [[-1], [1]]).tolist()
    assert figure.summary == (
        "Of 1 spoofs, 1 pass the verifier “Algorithm 2, corrected” in one of 3 trainings or more; "
        "none passes “recommended”."
    )
    assert always(cells, "honest proof", "recommended")
    assert never(cells, "Attack II", "recommended")
    assert not never(cells, "Attack II", "every interval")
    assert not always(cells, "Attack II", "every interval")
    assert spoof_names(cells) == ["Attack II"]
    trainings = found["matrix_trainings"]
    assert trainings.groupby(["folder", "defence"])["accepted"].sum()["Attack II", "every interval"] == 2
    assert accepted_by_all(trainings, [CORRECTED]).to_dict() == {"honest proof": 3, "Attack II": 3}
    both = accepted_by_all(trainings, ["every interval", "recommended"])
    assert both.to_dict() == {"honest proof": 3, "Attack II": 0}, "accepted by one or the other in each, never by both"
    with pytest.raises(KeyError, match="the matrix has no verifier 'a crystal ball'"):
        accepted_by_all(trainings, ["a crystal ball"])
    with pytest.raises(KeyError, match="Attack IV"):
        never(cells, "Attack IV", "recommended")
    assert matrix_tables([]) == {}


def test_honest_proofs_before_every_verifier_are_counted_by_machine(tmp_path):
    def judged(accepted, loose=0.1):
        places = [("other kernels", name) for name in VERIFIERS] + [("bf16", "recommended")]
        values = {
            f"{machine}.{name}.{kind}": value
            for machine, name in places
            for kind, value in (("accepted", True), ("floating_point_operations", 0.5), ("wall_seconds", 0.4))
        }
        return values | {"steps": 16, "other kernels.recommended.loose": loose, "bf16.recommended.accepted": accepted}

    records = {
        str(seed): record("presets", {"task": "digits", "seed": seed}, values)
        for seed, values in enumerate((judged(True), judged(False, 0.3)))
    }
    records["2"] = record("presets", {"task": "digits", "seed": 2}, judged(True), "failed")
    for name, each in records.items():
        write_record(tmp_path / "out", name, each)
    summarise(tmp_path / "out", tmp_path / "published")
    assert not (tmp_path / "published" / "runs.csv").exists()
    assert json.loads((tmp_path / "published" / "made_on_presets.json").read_text())["runs"] == 2
    presets = published(tmp_path / "published" / "presets")
    assert len(presets) == 2 * (len(PRESETS) + 1)  # each on other kernels, and one in bf16
    assert presets["loose"].dropna().tolist() == [0.1, 0.3]
    costs = costs_of_verifiers(published(tmp_path / "published" / "verifiers"))
    assert costs.index.tolist() == list(VERIFIERS)
    assert costs.loc["recommended"].tolist() == [0.5, 0.4, "0 / 2", "1 / 2"]
    assert costs.loc["all"].tolist() == [0.5, 0.4, "0 / 2", ""]
    assert presets_tables([]) == {}


def test_a_batch_without_spoofs_leaves_the_papers_results_as_they_are(tmp_path):
    found = {"accepted.Attack II.recommended": False, "steps.Attack II": 140, "errors.Attack II.tight": 500.0}
    for kind, values in (("honest", {"weights.most.l2": 0.1, "accepted.most": True}), ("matrix", found)):
        write_record(tmp_path / "out", kind, record(kind, {"task": "digits", "seed": 0}, values))
    summarise(tmp_path / "out", tmp_path / "published")
    assert sorted(file.name for file in (tmp_path / "published").iterdir()) == [
        "made_on_matrix.json",
        "matrix.csv",
        "matrix_costs.csv",
        "matrix_errors.csv",
        "matrix_trainings.csv",
    ]
    assert (tmp_path / "out" / "runs.csv").is_file()


def test_runs_of_different_settings_are_not_averaged(tmp_path):
    for epochs in (10, 20):
        made = {"task": "digits", "seed": 0, "epochs": epochs}
        write_record(tmp_path, f"proof {epochs}", record("honest", made, {"weights.most.l2": 0.1}))
    with pytest.raises(ValueError, match=r"has runs of digits with epochs = 10, 20: give each its own --out"):
        summarise(tmp_path)


def test_regimes_and_claimed_rates_are_summarised_apart(tmp_path, capsys):
    """And a batch that was stopped before a verdict on its proofs leaves what it has."""
    values = {"share.wall_seconds": 0.2, "share.stored_bytes": 0.1, "weights.all.l2": 0.1, "accepted.all": True}
    for regime, rate in (("paper", 0.0), ("paper", 0.005), ("strict", 0.0)):
        made = {"task": "digits", "seed": 0, "regime": regime}
        write_record(tmp_path, f"proof {regime}", record("prepare", made, {"cost.wall_seconds": 5.0}))
        made |= {"attack": "interpolation_only", "spoof_steps": 10} | ({"spoof_learning_rate": rate} if rate else {})
        write_record(tmp_path, f"spoof {regime} {rate}", record("spoof", made, values))
    summarise(tmp_path, tmp_path / "published")
    paper, strict = (published(tmp_path / "published" / name) for name in ("runs_paper", "runs"))
    assert set(strict["regime"]) == {"strict"}
    assert paper["spoof_learning_rate"].tolist() == [0.0, 0.0, 0.005]
    known = published(tmp_path / "published" / "averages_paper").query("value == 'weights.all.l2'")
    assert known["spoof_learning_rate"].tolist() == [0.0, 0.005]
    assert json.loads((tmp_path / "published" / "made_on_paper.json").read_text())["runs"] == 3


def test_figures_and_claims_are_of_the_lowest_rate_that_spoofs_of_each_task_claim(tmp_path, monkeypatch):
    """Where 0 stands for the prover's own."""
    drawn = []
    monkeypatch.setattr(summary, "drawn_figures", lambda averages: drawn.append(averages) or {})
    for task, rate in (("digits", 0.0), ("digits", 0.005), ("cifar10", 0.01)):
        made = {"task": task, "seed": 0, "regime": "paper", "attack": "interpolation_only", "spoof_steps": 10}
        made |= {"spoof_learning_rate": rate} if rate else {}
        write_record(tmp_path, f"spoof {task} {rate}", record("spoof", made, {"weights.all.l2": 0.1}))
    summarise(tmp_path)
    seen = pd.concat(drawn).groupby("task")["spoof_learning_rate"].unique()
    assert {task: rates.tolist() for task, rates in seen.items()} == {"digits": [0.005], "cifar10": [0.01]}


def test_claims_are_judged_beside_what_another_batch_halgorithm_2(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(summary, "drawn_figures", lambda averages: {})  # sixteen and more, which test_claims.py draws
    runs = batch_of_runs()
    (tmp_path / "published").mkdir()
    runs[runs["regime"] == "strict"].to_csv(tmp_path / "published" / "runs.csv", index=False)
    for row in runs[runs["regime"] == "paper"].dropna(axis=1, how="all").to_dict("records"):
        known = {name: row.pop(name) for name in PARAMETERS if name in row}
        values = {name: value for name, value in row.items() if "." in name or name in ("steps", "interval")}
        kept = {name: value for name, value in values.items() if not pd.isna(value)}
        write_record(tmp_path, row["name"], record(row["experiment"], known | {"pace": []}, kept))
    summarise(tmp_path, tmp_path / "published")
    claims = published(tmp_path / "published" / "claims")
    assert set(claims["claim"]) == set(RULES)
    assert claims[["holds_paper", "holds_strict"]].all(axis=None)
    assert "regime strict: yes" in capsys.readouterr().out


def test_a_batch_without_records_has_no_summary(tmp_path, capsys):
    summarise(tmp_path)
    assert "has no finished record yet" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match=r"runs\.csv is missing: `polkit reproduce --publish"):
        published(tmp_path / "runs")


@pytest.mark.slow
def test_real_experiments_leave_every_value_that_the_claims_and_figures_read(tmp_path, capsys):
    settings = {"repeats": 1, "out": tmp_path, "workers": 2, "common": SMALL, "lengths": [10]}
    results = ["table-2", "table-3", "figure-5", "figure-8", "figure-10", "figure-11", "costs", "matrix", "presets"]
    assert reproduce(results, **settings) == 0
    summarise(tmp_path, tmp_path / "published")
    counts = matrix_counts(published(tmp_path / "published" / "matrix"))
    assert counts.index.tolist() == [HONEST, RETRAINING, *SPOOFS]
    assert published(tmp_path / "published" / "verifiers")["proofs"].eq(1).all()
    assert counts.loc[["Attack I", "concatenation", "NaN checkpoints"]].sum().sum() == 0
    assert counts.loc[HONEST, RECOMMENDED] == 1
    assert counts[RECOMMENDED].sum() == 2  # the honest proof, and itself made again
    said = capsys.readouterr().out
    runs, claims = (published(tmp_path / "published" / name) for name in ("runs", "claims"))
    left = {"attack-2-linf", "same-level"}  # ask for more than one T', and for a spoof that was accepted
    assert set(claims["claim"]) == set(RULES) - left
    assert all(row.place in said for row in claims.itertuples())
    assert (tmp_path / "figures" / "accuracy-digits.html").stat().st_size > 1000
    assert (tmp_path / "figures" / "conditions-digits.html").is_file()
    spoofs, honest = runs.set_index("attack"), runs[runs["experiment"] == "honest"]
    assert not spoofs.loc["attack_1", "accepted.all"].any()
    assert (spoofs.loc["attack_1", "weights.all.l2"] > honest["threshold.weights.l2"].max()).all()
    assert spoofs.loc["attack_2", "share.stored_bytes"].max() < 1
    assert honest["accepted.most"].all()
    assert honest["steps"].tolist() == [100, 100]  # 640 images of either, in 10 batches, for 10 epochs
