"""Which runs each table or figure of the paper needs."""

from itertools import product

import pytest

import polkit as pk
from polkit.experiments.published import find_notebooks, paper_data
from polkit.reproduce import RESULTS, planned_runs
from polkit.reproduce.runs import APART, tried_lengths
from tests.batches import notebook_parameters


def test_every_result_has_its_runs_and_every_spoof_its_proof():
    for result in set(RESULTS) - {"presets", "paper-scale"}:
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
        assert attacks == set(RESULTS[result].attacks) - {"interpolation_only"}


def test_the_presets_bring_no_other_run_and_wait_for_the_first_of_them():
    runs = planned_runs(["presets"], "digits", 3, common={})
    assert [(run.experiment, run.parameters["seed"]) for run in runs] == [("presets", seed) for seed in range(3)]
    first, honest = runs[0], planned_runs(["figure-2"], "digits", 1, common={"regime": "strict"})[0]
    assert [run.needs for run in runs] == [honest.name, first.name, first.name]


def test_all_results_together_repeat_no_run_and_each_ablation_goes_along():
    together = planned_runs(["all", *APART], "digits", 1, common={})
    apart = {run.name for result in RESULTS for run in planned_runs([result], "digits", 1, common={})}
    assert {run.name for run in together} == apart
    papers = planned_runs(["all"], "digits", 1, common={})
    together = planned_runs(["all", "matrix", "presets"], "digits", 1, common={})
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
        by_cost, by_error = (tried_lengths(pk.task(row.task), regime) for regime in ("strict", "paper"))
        assert by_error == [700, 1200, 1600, 2500, 3500, 5200]
        assert row.task == "imagenet10" or by_cost == by_error  # there T is shorter
        for tried in (by_cost, by_error):
            assert any(row.from_steps < length < row.to_steps for length in tried), row
    halves = planned_runs(["figure-8"], "paper", 1, common={})
    assert {run.parameters["task"] for run in halves} == {"cifar10:first-half"}
    assert {run.parameters.get("adversary_half") for run in halves} == {None, "second-half"}


def test_at_the_papers_scale_all_begins_with_the_proofs_and_spoofs_go_from_short_to_long():
    runs = planned_runs(["paper-scale"], "cifar10", 1, common={"device": "cuda", "workers": 1})
    assert pk.task("cifar10").steps == 78_000
    assert not {"epochs", "train_size", "checkpoint_interval"} & {name for run in runs for name in run.parameters}
    assert len({run.name for run in runs}) == len(runs) == 2 + 2 + 3 * 4 * (2 + 1)
    proofs = {run.name: run.parameters for run in runs[:2]}
    assert [run.experiment for run in runs[:2]] == ["prepare"] * 2
    assert [(each["regime"], each["precision"]) for each in proofs.values()] == [
        ("paper", "float32"),
        ("strict", "bf16"),
    ]
    assert all(each["workers"] == 2 for each in proofs.values())
    assert [(run.needs, run.after) for run in runs[:2]] == [(None, None), (None, runs[0].name)]

    judged = [(run.experiment, run.parameters) for run in runs[2:]]
    for run in runs[2:]:
        assert proofs[run.needs] | {"workers": 1} == {name: run.parameters[name] for name in proofs[run.needs]}
    assert [each["regime"] for kind, each in judged if kind == "honest"] == ["paper", "strict"]
    told = [
        (each["attack"], each["spoof_steps"], each["regime"], each.get("spoof_learning_rate", 0.1))
        for kind, each in judged
        if kind == "spoof"
    ]
    settings = [("paper", 0.01), ("paper", 0.1), ("strict", 0.1)]
    attacks, lengths = ("interpolation_only", "attack_2", "attack_3"), (500, 1000, 2500, 4000)
    assert set(told) == {(*what, *how) for what in product(attacks, lengths) for how in settings}

    kinds = ["cheap" if each.get("attack") == "interpolation_only" else kind for kind, each in judged]
    assert kinds == ["cheap"] * 12 + ["honest"] * 2 + ["spoof"] * 24
    for part in (told[:12], told[12:]):
        assert [steps for _, steps, *_ in part] == sorted(steps for _, steps, *_ in part)


def test_at_the_papers_scale_one_regime_and_another_size_can_be_asked_for():
    common = {"regime": "strict", "precision": "float32", "epochs": 40}
    runs = planned_runs(["paper-scale"], "digits", 1, common=common, lengths=[10])
    assert [run.experiment for run in runs] == ["prepare", "spoof", "honest", "spoof", "spoof"]
    assert runs[0].after is None
    for run in runs:
        assert {name: run.parameters[name] for name in common} == common


def test_at_the_papers_scale_spoofs_of_the_papers_regime_may_have_their_own_k():
    runs = planned_runs(["paper-scale"], "digits", 1, common={"workers": 1}, lengths=[10], spoof_interval=5)
    own = {run.parameters["regime"]: run.parameters.get("spoof_interval") for run in runs if run.experiment == "spoof"}
    assert own == {"paper": 5, "strict": None}


def test_a_length_is_checked_against_the_k_of_the_spoof_that_has_it():
    asked = {"common": {"regime": "paper"}, "lengths": [12], "spoof_interval": 3}
    assert {run.parameters.get("spoof_steps") for run in planned_runs(["paper-scale"], "digits", 1, **asked)} == {
        None,
        12,
    }
    with pytest.raises(ValueError, match="T' = 100 is no multiple of the checkpoint interval k = 3"):
        planned_runs(["paper-scale"], "digits", 1, **asked | {"lengths": [100]})


def test_a_result_without_spoofs_asks_nothing_of_their_length():
    assert len(planned_runs(["matrix"], "digits", 1, common={"regime": "strict"}, lengths=[15])) == 2


def test_a_half_that_is_named_has_no_halves_of_its_own():
    runs = planned_runs(["table-3", "figure-8"], "digits:first-half", 1, common={"workers": 1})
    assert {run.parameters["task"] for run in runs} == {"digits:first-half"}


def test_in_the_papers_regime_a_spoof_claims_its_own_rate_and_k():
    runs = planned_runs(["all"], "digits", 1, common={"checkpoint_interval": 100}, spoof_interval=10)
    spoofs = {run.name: run.parameters for run in runs if run.experiment == "spoof"}
    own = {(p["regime"], p["attack"], p.get("spoof_interval"), p.get("spoof_learning_rate")) for p in spoofs.values()}
    attacks = ("attack_2", "attack_3", "interpolation_only")
    assert own == {("paper", name, 10, 0.005) for name in attacks} | {("paper", "attack_1", None, 0.005)} | {
        ("strict", name, None, None) for name in (*attacks, "attack_1", "borrowed_momentum")
    }
    lengths = {p["spoof_steps"] for p in spoofs.values() if p["regime"] == "paper" and p["attack"] == "attack_2"}
    assert lengths == {70, 120, 160, 250, 350, 520}  # as many intervals as in the paper


def test_where_the_examples_decide_spoofs_are_tried_over_their_length_and_over_their_rate():
    tried = {}
    for result in ("examples", "learning-rates"):
        runs = planned_runs([result], "digits", 1, common={"regime": "paper"})
        spoofs = [run.parameters for run in runs if run.experiment == "spoof"]
        tried[result] = {(each["spoof_steps"], round(0.05 / each["spoof_learning_rate"])) for each in spoofs}
        assert len(spoofs) == 3 * len(tried[result])  # of each attack, and of unmodified data
        assert all(("leave_within" in each) == (each["attack"] != "interpolation_only") for each in spoofs)
    assert tried["examples"] == {(1000, 16), (1200, 16), (1300, 16), (1400, 16)}
    assert tried["learning-rates"] == {(1200, 8), (1200, 16), (1200, 24), (1200, 32)}
    runs = planned_runs(["examples-fashion"], "fashion", 1, common={"regime": "paper"}, spoof_interval=1)
    spoofs = [run.parameters for run in runs if run.experiment == "spoof"]
    assert {
        (each["spoof_steps"], each["spoof_interval"], each["spoof_learning_rate"], each["trained_steps"])
        for each in spoofs
    } == {(200, 1, 0.05, 10), (200, 1, 0.08, 10)}
    runs = planned_runs(["k-100"], "digits", 1, common={"regime": "paper", "checkpoint_interval": 100})
    spoofs = [run.parameters for run in runs if run.experiment == "spoof"]
    tried = {(each["attack"], each.get("trained_steps", 0)) for each in spoofs}
    assert tried == set(product(("attack_3", "interpolation_only"), (0, 100)))
    assert {each.get("spoof_interval", 0) for each in spoofs} == {0}  # as the prover's


def test_runs_use_parameters_that_the_experiments_have():
    folder = find_notebooks() / "experiments"
    kinds = ("honest", "prepare", "spoof", "matrix", "presets")
    known = {kind: notebook_parameters(folder / f"{kind}.ipynb") for kind in kinds}
    common = {
        "epochs": 12,
        "checkpoint_interval": 5,
        "train_size": 640,
        "device": "cpu",
        "precision": "bf16",
        "threads": 1,
        "workers": 1,
    }
    for run in planned_runs(["all", *APART], "digits", 1, common=common, spoof_interval=2):
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


@pytest.mark.parametrize("result", ["figure-2", "paper-scale"])
@pytest.mark.parametrize("steps", [7, 15, 200_000])
def test_a_length_that_no_spoof_can_have_is_refused_before_any_run(result, steps):
    with pytest.raises(ValueError, match=f"T' = {steps} is "):
        planned_runs([result], "digits", 1, common={}, lengths=[100, steps])
