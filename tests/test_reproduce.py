"""The paper's results as runs: which there are, how they are scheduled and resumed, and what is made of them."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import polkit as pk
from polkit.adversary.retraining import RETRAINING
from polkit.book.chapters import chapter_parameters
from polkit.book.figures import matrix_figure
from polkit.book.figures.results import drawn_figures
from polkit.experiments.gallery import SPOOFS
from polkit.experiments.matrix import (
    COLUMNS,
    HONEST,
    PUBLISHED,
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
from polkit.experiments.published import find_notebooks, paper_data, published, published_folder
from polkit.reproduce import RESULTS, judged_claims, planned_runs, read_records, reproduce, summarise, tidy_runs
from polkit.reproduce import batch as batches
from polkit.reproduce.claims import RULES, filled_tables, table_beside
from polkit.reproduce.measure import MEASUREMENT_TYPE
from polkit.reproduce.records import averaged, read_record, write_record
from polkit.reproduce.runs import APART, tried_lengths
from polkit.reproduce.summary import matrix_tables, presets_tables
from tests.readme import matrix_table, refresh, shown_in, speed_table, tables

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"epochs": 10, "train_size": 640, "checkpoint_interval": 5}
# A stand-in for an experiment: it leaves a mark when it starts, takes its time, and measures something.
STAND_IN = f"""
import json, os, time
from pathlib import Path
from IPython.display import display
folder = Path(os.environ["POLKIT_TEST_FOLDER"])
orders = json.loads((folder / "orders.json").read_text())
(folder / f"{{attack or 'honest'}}-{{spoof_steps}}-{{seed}}-{{time.time_ns()}}.mark").touch()
time.sleep(orders.get("pause", 0))
if seed == orders.get("fails") if attack else seed == orders.get("proof_fails"):
    raise RuntimeError("this one fails")
if attack and seed == orders.get("dies"):
    os._exit(1)
display({{"{MEASUREMENT_TYPE}": {{"share.wall_seconds": seed + 0.5}}, "text/plain": ""}}, raw=True)
"""


def test_every_result_has_its_runs_and_every_spoof_its_proof():
    for result in set(RESULTS) - {"presets"}:
        runs = planned_runs([result], "digits", 2, common={})
        names = [run.name for run in runs]
        assert len(set(names)) == len(names) > 2
        for number, run in enumerate(runs):
            if run.experiment != "honest":
                assert run.needs in names[:number], result
                needed = runs[names.index(run.needs)].parameters
                assert {name: run.parameters[name] for name in needed} == needed
        assert {run.parameters["seed"] for run in runs} == {0, 1}
        attacks = {run.parameters.get("attack") for run in runs} - {None, "interpolation_only"}
        assert attacks == (set() if result == "matrix" else set(RESULTS[result][0].split(" and ")))


def test_the_presets_bring_no_other_run_and_wait_for_the_first_of_them():
    runs = planned_runs(["presets"], "digits", 3, common={})
    assert [(run.experiment, run.parameters["seed"]) for run in runs] == [("presets", seed) for seed in range(3)]
    first, honest = runs[0], planned_runs(["figure-2"], "digits", 1, common={})[0]
    assert [run.needs for run in runs] == [honest.name, first.name, first.name]


def test_all_results_together_repeat_no_run_and_each_ablation_goes_along():
    together = planned_runs(["all", *APART], "digits", 1, common={})
    apart = {run.name for result in RESULTS for run in planned_runs([result], "digits", 1, common={})}
    assert {run.name for run in together} == apart
    papers = planned_runs(["all"], "digits", 1, common={})
    assert {run.experiment for run in papers} == {"honest", "spoof"}
    assert {run.name for run in papers} == {run.name for run in together if run.experiment in ("honest", "spoof")}
    for figure in ("figure-2", "figure-5", "figure-8", "figure-9"):
        runs = [run.parameters for run in planned_runs([figure], "digits", 1, common={}) if run.experiment == "spoof"]
        lengths = {
            kind: {p["spoof_steps"] for p in runs if p["attack"] == kind} for kind in {p["attack"] for p in runs}
        }
        assert len(lengths) == 2
        assert len(set(map(frozenset, lengths.values()))) == 1


def test_the_paper_has_a_data_set_for_each_figure_and_its_lengths():
    runs = planned_runs(["figure-2", "figure-6", "figure-7"], "paper", 1, common={})
    spoofs = [run.parameters for run in runs if run.experiment == "spoof"]
    assert {p["task"] for p in spoofs} == {"cifar10", "cifar100", "imagenet10"}
    assert all("epochs" not in run.parameters for run in runs)  # E = 200
    windows = paper_data("windows").dropna(subset=["from_steps"])
    for row in windows.itertuples():
        tried = tried_lengths(pk.task(row.task))
        assert any(row.from_steps < length < row.to_steps for length in tried), row
    halves = planned_runs(["figure-8"], "paper", 1, common={})
    assert {run.parameters["task"] for run in halves} == {"cifar10:first-half"}
    assert {run.parameters.get("adversary_half") for run in halves} == {None, "second-half"}


def test_runs_use_parameters_that_the_experiments_have():
    folder = find_notebooks() / "experiments"
    known = {kind: chapter_parameters(folder / f"{kind}.ipynb") for kind in ("honest", "spoof", "matrix", "presets")}
    common = {
        "epochs": 2,
        "checkpoint_interval": 5,
        "train_size": 640,
        "device": "cpu",
        "precision": "bf16",
        "threads": 1,
        "workers": 1,
    }
    for run in planned_runs(["all", *APART], "digits", 1, common=common):
        for name, value in run.parameters.items():
            assert type(value) is type(known[run.experiment][name]), (run.name, name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["figure-1"], "digits", 1), "there is no result 'figure-1'; the results are table-2, table-3, figure-2"),
        ((["all"], "digits", 0), "0 repeats: an average needs at least 1"),
        ((["all"], "cifar11", 1), "there is no task 'cifar11'"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        planned_runs(*arguments, common={})


class StandIns:
    """Experiments that take no time: what they are told, and which were started."""

    def __init__(self, folder):
        self.folder = folder
        self.told()
        (folder / "experiments").mkdir()
        no_spoof = "attack, spoof_steps = '', 0"
        for kind, unset in (("honest", no_spoof), ("spoof", ""), ("presets", no_spoof)):
            defaults = chapter_parameters(find_notebooks() / "experiments" / f"{kind}.ipynb")
            parameters = new_code_cell("\n".join(f"{name} = {value!r}" for name, value in defaults.items()))
            parameters.metadata.tags = ["parameters"]
            stand_in = new_notebook(cells=[parameters, new_code_cell(unset + STAND_IN)])
            stand_in.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
            nbformat.write(stand_in, folder / "experiments" / f"{kind}.ipynb")

    def told(self, **orders):
        (self.folder / "orders.json").write_text(json.dumps(orders))

    def started(self):
        return sorted(file.name.rsplit("-", 1)[0] for file in self.folder.glob("*.mark"))

    def forget(self):
        self.told()
        for file in self.folder.glob("*.mark"):
            file.unlink()


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """The stand-ins, and a dask cluster of two processes, one of which is killed in the end."""
    stand_ins, folder = StandIns(tmp_path_factory.mktemp("stand-ins")), tmp_path_factory.mktemp("dask")
    contact, dask = folder / "scheduler.json", [sys.executable, "-m", "dask"]
    quiet = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "env": os.environ | {"POLKIT_TEST_FOLDER": str(stand_ins.folder)},
    }
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(contact)]
    processes = [subprocess.Popen([*dask, "scheduler", *options], **quiet)]
    try:
        text = wait_for(lambda: contact.exists() and contact.read_text())
        address = json.loads(text)["address"]
        for _ in range(2):
            worker = [*dask, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
            processes.append(subprocess.Popen(worker, **quiet))
        yield stand_ins, address, processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(everything, monkeypatch):
    """The stand-ins, how `reproduce` finds the cluster, and its workers."""
    stand_ins, address, workers = everything
    stand_ins.forget()
    monkeypatch.setattr(batches, "find_notebooks", lambda: stand_ins.folder)
    return stand_ins, {"scheduler": address}, workers


def wait_for(found, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not come")


def test_a_batch_runs_once_resumes_and_is_forced(cluster, tmp_path, capsys):
    stand_ins, where, _ = cluster
    settings = {"repeats": 2, "out": tmp_path} | where
    assert reproduce(["table-2"], dry_run=True, **settings) == 0
    assert "4 runs, 0 of them finished before" in capsys.readouterr().out
    assert stand_ins.started() == []
    assert reproduce(["table-2"], **settings) == 0
    every = ["attack_2-140-0", "attack_2-140-1", "honest-0-0", "honest-0-1"]
    assert stand_ins.started() == every
    said = capsys.readouterr().out
    assert re.search(r"\[4/4\] digits-.*: \d+\.\d s; about 0 s left", said)
    records = read_records(tmp_path)
    assert len(records) == 4
    for record in records.values():
        assert record["status"] == "finished"
        assert record["versions"]["torch"]
        assert record["machine"]["cores"] >= 1
        assert record["values"] == {"share.wall_seconds": record["parameters"]["seed"] + 0.5}
        assert record["run_seconds"] > 0
    assert len(list((tmp_path / "notebooks").glob("*.ipynb"))) == 4

    assert reproduce(["table-2"], **settings) == 0  # nothing is left to do
    assert stand_ins.started() == every
    lost = next(name for name in records if "seed1" in name and "attack_2" in name)
    (tmp_path / "records" / f"{lost}.json").unlink()  # as if the batch had been killed before this one
    assert reproduce(["table-2"], **settings) == 0
    assert stand_ins.started() == sorted([*every, "attack_2-140-1"])
    assert reproduce(["table-2"], force=True, **settings) == 0
    assert stand_ins.started() == sorted([*every, *every, "attack_2-140-1"])


def test_a_failed_run_is_named_and_the_batch_goes_on(cluster, tmp_path, capsys):
    stand_ins, where, _ = cluster
    stand_ins.told(fails=0, dies=1)
    assert reproduce(["table-2"], repeats=3, out=tmp_path, **where) == 2
    said = capsys.readouterr().out
    assert "spoof.ipynb: RuntimeError: this one fails" in said
    assert "spoof.ipynb: DeadKernelError" in said
    assert "4 of 6 runs" in said
    assert len(tidy_runs(read_records(tmp_path))) == 4
    stand_ins.told()
    assert reproduce(["table-2"], repeats=3, out=tmp_path, **where) == 0  # failed ones are tried again, no other
    assert [stand_ins.started().count(f"attack_2-140-{seed}") for seed in range(3)] == [2, 2, 1]


def test_without_its_proof_a_spoof_is_not_tried(cluster, tmp_path, capsys):
    stand_ins, where, _ = cluster
    stand_ins.told(proof_fails=0)
    assert reproduce(["table-2"], repeats=2, out=tmp_path, **where) == 2
    assert stand_ins.started() == ["attack_2-140-1", "honest-0-0", "honest-0-1"]
    told = r"spoof\.ipynb: digits-honest-seed0-\w+, which it needs, failed: RuntimeError: this one fails"
    assert re.search(told, capsys.readouterr().out)
    assert sorted(record["status"] for record in read_records(tmp_path).values()) == ["failed"] * 2 + ["finished"] * 2


def test_whatever_waits_for_a_failed_run_fails_however_long_the_chain(cluster, tmp_path, capsys):
    stand_ins, where, _ = cluster
    stand_ins.told(proof_fails=0)
    assert reproduce(["table-2", "presets"], repeats=3, out=tmp_path, **where) == 5
    assert stand_ins.started() == ["attack_2-140-1", "attack_2-140-2", "honest-0-0", "honest-0-1", "honest-0-2"]
    first, *others = [run.name for run in planned_runs(["presets"], "digits", 3, common={"workers": 1})]
    for name in others:
        assert read_record(tmp_path, name)["error"].startswith(f"{first}, which it needs, failed: digits-honest-seed0")
    assert "[9/9]" in capsys.readouterr().out


def test_a_notebook_that_measures_nothing_has_failed(tmp_path):
    source = nbformat.writes(new_notebook(cells=[new_code_cell("1 + 1")]))
    record, _ = batches.execute("spoof", {}, source)
    assert (record["status"], record["error"]) == ("failed", "the notebook ended without a measurement")


def test_the_spoof_experiment_trains_as_many_steps_as_it_is_told():
    given = SMALL | {"attack": "interpolation_only", "spoof_steps": 15, "trained_steps": 5, "workers": 1}
    source = (ROOT / "notebooks" / "experiments" / "spoof.ipynb").read_text()
    record, _ = batches.execute("spoof", given, source)
    assert record["error"] is None

    task = pk.task("digits", **SMALL)
    proof, calibration = pk.prepare(task, workers=1, progress=False)
    found = {}
    for trained in (0, 5):
        spoof = pk.interpolation_only(
            proof.final_weights(),
            task,
            spoof_steps=15,
            trained_steps=trained,
            seed=1,
            calibration=calibration,
            progress=False,
        )
        errors = pk.verify(spoof, calibration, top_q="all", workers=1).intervals
        found[trained] = errors.query("part == 'weights' and distance == 'l2'")["normalised_error"].max()
    assert record["values"]["weights.all.l2"] == found[5] != found[0]


def test_a_killed_worker_of_a_running_cluster_costs_only_the_run_it_had(cluster, tmp_path):
    stand_ins, where, workers = cluster
    stand_ins.told(pause=3)

    def kill_one():
        wait_for(lambda: len(stand_ins.started()) >= 3)
        workers[0].send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    assert reproduce(["table-2"], repeats=3, out=tmp_path, **where) == 0
    killer.join()
    assert workers[0].wait(5) == -signal.SIGKILL
    every = [f"{kind}-{seed}" for kind in ("honest-0", "attack_2-140") for seed in range(3)]
    assert set(stand_ins.started()) == set(every)
    assert len(every) <= len(stand_ins.started()) <= len(every) + 1
    assert all(record["status"] == "finished" for record in read_records(tmp_path).values())


def test_each_worker_of_this_machine_shows_its_runs_one_gpu(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(batches.torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(batches, "get_worker", lambda: type("Worker", (), {"name": 6}))
    with batches.own_gpu({"device": "cuda"}):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    with batches.own_gpu({"device": "cpu"}):
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")  # a scheduler has assigned one
    with batches.own_gpu({"device": "cuda"}):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"


def test_a_file_that_is_no_record_is_named(tmp_path):
    write_record(tmp_path, "whole", {"status": "finished", "values": {}})
    assert read_record(tmp_path, "whole")["status"] == "finished"
    assert read_record(tmp_path, "none") is None
    for text in ("{", "[]", '{"status": "finished"}', '{"status": "odd", "values": {}}'):
        (tmp_path / "records" / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=r"bad\.json is not the record of a run"):
            read_record(tmp_path, "bad")


def record(experiment, parameters, values):
    return {
        "experiment": experiment,
        "parameters": parameters,
        "status": "finished",
        "error": None,
        "values": values,
        "run_seconds": 2.0,
    }


MADE_HERE = {"machine": {}, "versions": {}, "ended": "today"}


def test_averages_are_means_and_deviations_over_the_repeats():
    found = [3.0, 4.0, 8.0]
    records = {
        f"{attack}-{seed}": record(
            "spoof",
            {"task": "folder:/home/me/cats", "seed": seed, "attack": attack},
            {"weights.all.l2": value + shift, "accepted.all": seed > 0},
        )
        for attack, shift in (("attack_2", 0), ("attack_3", 10))
        for seed, value in enumerate(found)
    }
    records["failed"] = record("spoof", {"task": "digits"}, {}) | {"status": "failed"}
    runs = tidy_runs(records)
    assert len(runs) == 6
    assert set(runs["task"]) == {"folder:cats"}  # no path of anybody's
    table = averaged(runs).set_index(["attack", "value"])
    assert set(table["repeats"]) == {3}
    row = table.loc[("attack_2", "weights.all.l2")]
    assert (row["mean"], row["deviation"]) == pytest.approx((np.mean(found), np.std(found, ddof=1)))
    assert (row["least"], row["most"]) == (3.0, 8.0)
    assert table.loc[("attack_3", "weights.all.l2"), "mean"] == pytest.approx(15.0)
    assert table.loc[("attack_3", "accepted.all"), "mean"] == pytest.approx(2 / 3)


def batch_of_runs(**changes):
    """A proof and spoofs of every kind for which all of the paper's claims hold; `changes` to values of the spoofs."""
    errors = {
        f"{part}.{q}.{d}": 0.02 for part in ("weights", "buffers") for q in ("one", "most", "all") for d in pk.DISTANCES
    }
    curve = {f"accuracy.{number / 10:.1f}": number / 10 for number in range(11)}
    spoof = (
        errors
        | curve
        | {
            "accepted.one": True,
            "accepted.most": True,
            "accepted.all": True,
            "within.all": True,
            "steps": 100,
            "interval": 10,
            "share.wall_seconds": 0.4,
            "share.stored_bytes": 0.1,
            "share.floating_point_operations": 0.05,
            "cost.gradient_evaluations": 31 * 100,
            "loss.before": 0.4,
            "loss.after": 0.04,
            "gradient_squared.before": 60.0,
            "gradient_squared.after": 0.1,
            "grey_levels.mean": 1.0,
            "grey_levels.largest": 4.0,
        }
    )
    honest = {name: 0.03 for name in errors} | curve | {"steps": 1000}
    honest |= {f"threshold.weights.{distance}": 0.045 for distance in pk.DISTANCES}
    records = {}
    for task in ("digits", "digits:first-half"):
        records[f"{task} proof"] = record("honest", {"task": task, "seed": 0}, honest)
    for attack in ("attack_1", "attack_2", "attack_3"):
        for steps in (50, 100):
            values = dict(spoof)
            if attack == "attack_1":
                values |= {f"weights.most.{d}": 0.9 for d in pk.DISTANCES} | {"share.wall_seconds": 1.0}
            if attack == "attack_2" and steps == 50:
                values["weights.all.linf"] = values["weights.most.linf"] = 0.05
            if attack == "attack_3":
                values |= {
                    "share.wall_seconds": 0.1,
                    "cost.gradient_evaluations": 310,
                    "share.floating_point_operations": 0.05,
                }
            values["steps"] = steps
            values["share.floating_point_operations"] = 0.003 * steps if attack == "attack_3" else 0.02 * steps
            plain = {"seed": 0, "attack": attack, "spoof_steps": steps}
            variants = {"": {"task": "digits"}}
            if attack != "attack_1":
                variants |= {
                    "half": {"task": "digits:first-half", "adversary_half": "second-half"},
                    "slow": {"task": "digits", "adversary_precision": "float64"},
                }
            for name, variant in variants.items():
                changed = values | {key: v for key, v in changes.items() if key in values}
                records[f"{attack} {steps} {name}"] = record("spoof", plain | variant, changed)
    return tidy_runs(records)


def test_every_claim_has_a_rule_and_every_rule_a_claim():
    assert set(paper_data("claims")["claim"]) == set(RULES)


def test_where_the_papers_claims_hold_the_rules_say_so():
    found = judged_claims(batch_of_runs()).set_index("claim")
    assert set(found.index) == set(RULES)
    assert found.index[~found["holds"]].tolist() == []
    assert (found["here"].str.len() > 3).all()


CONTRARY = {
    "loss-falls": {"loss.after": 0.5},
    "gradient-falls": {"gradient_squared.after": 61.0},
    "attack-1-fails": {"weights.most.linf": 0.01},
    "attack-1-time": {"share.wall_seconds": 0.2},
    "attack-2-errors": {"weights.all.cos": 0.04},
    "attack-2-linf": {"weights.all.linf": 0.01},
    "attack-2-window": {"accepted.all": False},
    "attack-3-errors": {"weights.all.l1": 0.04},
    "attack-3-window": {"share.wall_seconds": 1.2},
    "attack-3-wider": {"share.wall_seconds": 0.3},
    "size": {"share.stored_bytes": 1.5},
    "top-q": {"accepted.most": False},
    "accuracy-trend": {f"accuracy.{number / 10:.1f}": 0.1 for number in range(11)},
    "halves": {"accepted.all": False},
    "hardware": {"share.wall_seconds": 1.5},
    "invisible": {"grey_levels.largest": 40.0},
    "same-level": {"share.wall_seconds": 0.9},
    "cost-2": {"share.floating_point_operations": 5.0},
    "cost-3": {"share.floating_point_operations": 0.9},
}


@pytest.mark.parametrize("claim", list(RULES))
def test_where_a_claim_does_not_hold_its_rule_says_that(claim):
    found = judged_claims(batch_of_runs(**CONTRARY[claim])).set_index("claim")
    assert not found.loc[claim, "holds"]


def test_a_claim_that_nobody_tried_has_no_row():
    runs = batch_of_runs()
    assert judged_claims(runs[runs["experiment"] == "honest"]).empty
    left = set(judged_claims(runs[runs["attack"].isin(["", "attack_1"])])["claim"])
    assert left == {"attack-1-fails", "attack-1-time"}


def test_figures_draw_the_averages_and_say_where_the_spoof_errs_less():
    runs = batch_of_runs()
    drawn = drawn_figures(averaged(runs))
    plain, halves = {"attack_2-digits", "attack_3-digits"}, {f"attack_{n}-digits:first-half-halves" for n in (2, 3)}
    lengths = plain | halves
    assert set(drawn) == lengths | {f"{name}-q1" for name in lengths} | {"conditions-digits"}
    figure = drawn["attack_2-digits"]
    traces = [trace for trace in figure.plot.data if trace.name == "Attack II"]
    assert [list(trace.x) for trace in traces] == [[50, 100]] * 6
    assert [list(trace.y) for trace in traces] == [
        [0.02, 0.02],
        [0.02, 0.02],
        [0.05, 0.02],
        [0.02, 0.02],
        [0.4, 0.4],
        [0.1, 0.1],
    ]
    lines = {trace.name: trace.y[0] for trace in figure.plot.data if trace.name in ("the proof", "δ")}
    assert lines == {"the proof": 1.0, "δ": 0.045}  # of the errors it is 0.03, of seconds and bytes 1
    assert "in l2 at T' = 50, 100; in linf at T' = 100; in cos at T' = 50, 100 (means of 1 repeats)" in figure.summary
    assert "in linf at T' = 50, 100;" in drawn["attack_2-digits-q1"].summary  # only Q = ⌊S/k⌋ finds it out
    assert "Attack III, float64: 0.1" in drawn["conditions-digits"].summary
    parameters = {"task": "digits", "seed": 0, "attack": "attack_3", "spoof_steps": 100, "off_path": 0.25}
    flat = {f"accuracy.{n / 10:.1f}": 0.5 for n in range(11)} | {"accepted.all": False}
    extra = {"off the path": record("spoof", parameters, flat)}
    figure = drawn_figures(averaged(pd.concat([runs, tidy_runs(extra)])))["accuracy-digits"]
    curves = {trace.name: list(trace.y) for trace in figure.plot.data}
    assert curves["the proof"] == curves["Attack III, straight path"] == [n / 10 for n in range(11)]
    assert curves["Attack III, perturbed by 25%"] == [0.5] * 11
    assert "perturbed by 25%: 0.27 from the proof's on average, accepted in 0% of the repeats" in figure.summary


def test_the_papers_numbers_are_the_papers():
    tables = paper_data("tables")
    known = tables.set_index(["place", "task", "party", "quantity"])["value"].sort_index()
    proof = known["Table III", "cifar10", "proof"].to_dict()
    assert proof == {"l1": 0.0265, "l2": 0.0333, "linf": 0.0283, "cos": 0.0038, "seconds": 4607}
    for row in paper_data("settings").itertuples():
        if row.task in ("cifar10", "cifar100", "imagenet10"):
            task = pk.task(row.task)
            ours = {
                "E": task.epochs,
                "S": task.steps_per_epoch,
                "k": task.checkpoint_interval,
                "Q": task.steps_per_epoch // task.checkpoint_interval,
            }
            if row.symbol in ours:
                assert ours[row.symbol] == int(row.value), row
    costs = paper_data("costs").set_index("party")
    assert costs.loc["attack_2", "break_even_steps"] == 78000 // 31
    assert (paper_data("claims")["place"].str.len() > 5).all()


def test_the_colour_run_names_its_images_by_no_path():
    folder, runs = published_folder() / "folder-32x32", published("folder-32x32/runs")
    assert set(runs["task"]) == {"folder:colour"}
    assert set(runs["precision"]) == {"bf16"}
    assert {"interpolation_only", "attack_2"} <= set(runs["attack"])
    assert "/" not in "".join((folder / name).read_text() for name in ("runs.csv", "averages.csv"))


def test_tables_2_and_3_stand_beside_the_papers():
    averages = published("digits/averages")
    second = table_beside(averages, "Table II", ["digits"], 140)
    assert second.loc["loss", ("cifar10 (paper)", "before")] == "0.4300 ± 0.1800"
    assert second.loc["squared gradient norm", ("cifar10 (paper)", "after")] == "0.1200 ± 0.0500"
    rows = averages[
        (averages["attack"] == "attack_2")
        & (averages["spoof_steps"] == 140)
        & (averages["value"] == "loss.after")
        & (averages["task"] == "digits")
        & (averages["adversary_precision"] == "")
    ]
    assert second.loc["loss", ("digits (here)", "after")].startswith(f"{rows['mean'].item():.4f} ± ")

    third = table_beside(averages, "Table III", ["digits", "digits:first-half"])
    assert third.index.tolist() == ["l1", "l2", "linf", "cos", "seconds"]
    assert third.loc["linf", ("cifar100 (paper)", "proof")] == "0.5075"
    assert third.loc["seconds", ("cifar100 (paper)", "spoof")] == "18,307"
    assert not third.isna().any(axis=None)
    for task in ("digits (here)", "digits:first-half (here)"):
        spoof, proof = (float(third.loc["l2", (task, party)].split(" ± ")[0]) for party in ("spoof", "proof"))
        assert spoof > 10 * proof
    filled = filled_tables(averages)
    assert set(filled) >= {"table-2-digits-T40", "table-2-digits-T140", "table-3"}
    assert filled["table-2-digits-T140"].equals(second)
    assert filled["table-3"].equals(third)
    with pytest.raises(ValueError, match="there is no loss.before of .*'spoof_steps': 150.* on digits for Table II"):
        table_beside(averages, "Table II", ["digits"], 150)


def test_published_results_are_whole_and_name_their_machine():
    runs, claims, known = (published(f"digits/{name}") for name in ("runs", "claims", "averages"))
    made_on = json.loads((published_folder() / "digits" / "made_on.json").read_text())
    assert len(runs) + published("digits/matrix")["repeats"].max() == made_on["runs"]
    assert {"processor", "cores", "gpu", "system"} == set(made_on["machines"][0])
    assert set(claims["claim"]) == set(RULES)
    repeated = averaged(runs)
    assert len(repeated) == len(known)
    np.testing.assert_allclose(repeated["mean"], known["mean"], rtol=1e-4)
    assert judged_claims(runs)["holds"].tolist() == claims["holds"].tolist()


def test_the_readme_shows_the_published_results():
    for place, table in tables().items():
        assert shown_in(ROOT / "README.md", place) == table


def test_the_speed_table_shows_what_has_a_floor_and_whether_it_is_kept():
    rows = [
        ("prove / bare loop", "ratio", 1.2344, 1.15, False),
        ("import polkit", "seconds", 0.2367, 0.3, True),
        ("make book, 01_primer", "seconds", 49.1, None, True),
    ]
    bench = pd.DataFrame(rows, columns=["what", "unit", "value", "at_most", "holds"])
    assert speed_table(bench).splitlines()[2:] == [
        "| prove / bare loop | 1.23 | 1.15 | no |",
        "| import polkit | 0.237 s | 0.30 s | yes |",
    ]


def test_the_readmes_tables_stand_between_their_marks(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# a\n<!-- results: begin -->\nold\n<!-- results: end -->\nb\n")
    refresh(readme, "results", "| new |")
    assert readme.read_text() == "# a\n<!-- results: begin -->\n| new |\n<!-- results: end -->\nb\n"
    assert shown_in(readme, "results") == "| new |"
    with pytest.raises(ValueError, match="must have one line '<!-- matrix: begin -->'"):
        refresh(readme, "matrix", "| new |")


def test_the_matrix_counts_in_how_many_repeats_a_folder_was_accepted(tmp_path):
    accepted = {
        f"accepted.{folder}.{defence}": True
        for folder in ("honest proof", "Attack II")
        for defence in (PUBLISHED, *COLUMNS)
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
    records["failed"] = record("matrix", {"task": "digits"}, accepted) | {"status": "failed"}
    found = matrix_tables(records)
    cells = found["matrix"]
    assert found["matrix_errors"].to_dict("records") == [{"task": "digits", "folder": "Attack II", "tight": 400.0}]
    counts = matrix_counts(cells)
    assert counts.index.tolist() == ["honest proof", "Attack II"]
    assert counts["every interval"].tolist() == [3, 2]
    assert counts["recommended"].tolist() == [3, 0]
    assert counts.columns.tolist() == [PUBLISHED, *COLUMNS]
    assert repeats_of(cells) == 3
    with pytest.raises(ValueError, match=r"counts over \[3, 4\] repeats"):
        repeats_of(pd.concat([cells, cells.assign(repeats=4)]))
    figure = matrix_figure(counts, 3)
    assert figure.plot.data[0].z.tolist() == (counts.to_numpy() / 3).tolist()
    assert figure.summary == (
        "Of 1 spoofs, 1 pass the verifier “as published” in one of 3 trainings or more; none passes “recommended”."
    )
    assert always(cells, "honest proof", "recommended")
    assert never(cells, "Attack II", "recommended")
    assert not never(cells, "Attack II", "every interval")
    assert not always(cells, "Attack II", "every interval")
    assert spoof_names(cells) == ["Attack II"]
    rows = matrix_table(cells, found["matrix_costs"], "digits").splitlines()
    cell = {name: number for number, name in enumerate(["", "folder", "T'", "operations", PUBLISHED, *COLUMNS])}
    assert rows[2].split(" | ")[:3] == ["| honest proof", "T", "1"]
    attack = rows[3].split("|")
    assert [word.strip() for word in attack[1:5]] == ["Attack II", "140", "0.200", "3"]
    assert attack[cell["every interval"]].strip() == "2"
    assert attack[cell["recommended"]].strip() == "–"
    said = "In how many of 3 trainings each verifier accepted the folder: 0 as published · 1 η decided by the verifier"
    assert rows[-1].startswith(said)
    trainings = found["matrix_trainings"]
    assert trainings.groupby(["folder", "defence"])["accepted"].sum()["Attack II", "every interval"] == 2
    assert accepted_by_all(trainings, [PUBLISHED]).to_dict() == {"honest proof": 3, "Attack II": 3}
    both = accepted_by_all(trainings, ["every interval", "recommended"])
    assert both.to_dict() == {"honest proof": 3, "Attack II": 0}, "accepted by one or the other in each, never by both"
    with pytest.raises(KeyError, match="the matrix of digits has no verifier 'a crystal ball'"):
        accepted_by_all(trainings, ["a crystal ball"])
    with pytest.raises(KeyError, match="the matrix of digits has no cell 'Attack IV' × 'recommended'"):
        never(cells, "Attack IV", "recommended")
    assert matrix_tables({}) == {}


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
    records["2"] = record("presets", {"task": "digits", "seed": 2}, judged(True)) | {"status": "failed"}
    for name, each in records.items():
        write_record(tmp_path / "out", name, each | MADE_HERE)
    summarise(tmp_path / "out", tmp_path / "published")
    assert not (tmp_path / "published" / "runs.csv").exists()
    assert json.loads((tmp_path / "published" / "made_on_presets.json").read_text())["runs"] == 2
    presets, verifiers = (published(tmp_path / "published" / name) for name in ("presets", "verifiers"))
    assert len(presets) == 2 * (3 + 1)
    assert presets["loose"].dropna().tolist() == [0.1, 0.3]
    costs = costs_of_verifiers(verifiers)
    assert costs.index.tolist() == list(VERIFIERS)
    assert costs.loc["recommended"].tolist() == [0.5, 0.4, "0 / 2", "1 / 2"]
    assert costs.loc["all"].tolist() == [0.5, 0.4, "0 / 2", ""]
    assert presets_tables({}) == {}


def test_a_batch_without_spoofs_leaves_the_papers_results_as_they_are(tmp_path):
    found = {"accepted.Attack II.recommended": False, "steps.Attack II": 140, "errors.Attack II.tight": 500.0}
    for kind, values in (("honest", {"weights.most.l2": 0.1, "accepted.most": True}), ("matrix", found)):
        write_record(tmp_path / "out", kind, record(kind, {"task": "digits", "seed": 0}, values) | MADE_HERE)
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


def test_a_batch_without_records_has_no_summary(tmp_path, capsys):
    summarise(tmp_path)
    assert "has no finished record yet" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match=r"runs\.csv is missing: `polkit reproduce --publish"):
        published(tmp_path / "runs")


def test_real_experiments_leave_every_value_that_the_claims_and_figures_read(tmp_path, capsys):
    settings = {"repeats": 1, "out": tmp_path, "workers": 2, "common": SMALL, "lengths": [10]}
    results = ["table-2", "table-3", "figure-5", "figure-8", "figure-10", "figure-11", "matrix", "presets"]
    assert reproduce(results, **settings) == 0
    summarise(tmp_path, tmp_path / "published")
    matrix, verifiers, runs, claims = (
        published(tmp_path / "published" / name) for name in ("matrix", "verifiers", "runs", "claims")
    )
    counts = matrix_counts(matrix)
    assert counts.index.tolist() == [HONEST, RETRAINING, *SPOOFS]
    assert verifiers["proofs"].eq(1).all()
    assert counts.loc[["Attack I", "concatenation", "NaN checkpoints"]].sum().sum() == 0
    assert counts.loc[HONEST, RECOMMENDED] == 1
    assert counts[RECOMMENDED].sum() == 2  # the honest proof, and itself made again
    said = capsys.readouterr().out
    left = {"attack-2-linf", "same-level"}  # ask for more than one T', and for a spoof that was accepted
    assert set(claims["claim"]) == set(RULES) - left
    assert all(row.place in said for row in claims.itertuples())
    assert (tmp_path / "figures" / "accuracy-digits.html").stat().st_size > 1000
    assert (tmp_path / "figures" / "conditions-digits.html").is_file()
    runs = runs.set_index("attack")
    assert (runs.loc["attack_1", "weights.all.l2"] > 0.3).all()
    assert runs.loc["attack_2", "share.stored_bytes"].max() < 1
    honest = runs[runs["experiment"] == "honest"]
    assert honest["accepted.most"].all()
    assert honest["steps"].tolist() == [100, 100]  # 640 images of either, in 10 batches, for 10 epochs
