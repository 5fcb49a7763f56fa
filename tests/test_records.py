"""One record per run: written, read, and averaged over the repeats."""

import ast

import numpy as np
import pytest

from polkit.book.chapters import parameter_texts
from polkit.experiments.published import find_notebooks
from polkit.reproduce import tidy_runs
from polkit.reproduce.records import PARAMETERS, averaged, read_record, read_records, write_record
from tests.batches import record


def test_a_file_that_is_no_record_is_named(tmp_path):
    whole = record("spoof", {"task": "digits"}, {"weights.all.l2": 0.1})
    write_record(tmp_path, "whole", whole)
    assert read_record(tmp_path, "whole") == whole
    assert read_record(tmp_path, "none") is None
    for text in ("{", "[]", '{"status": "finished"}', '{"status": "odd", "values": {}}'):
        (tmp_path / "records" / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=r"bad\.json is not the record of a run"):
            read_record(tmp_path, "bad")


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
    records["failed"] = record("spoof", {"task": "digits"}, {}, "failed")
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


def test_runs_that_differ_in_any_parameter_of_a_spoof_are_averaged_apart():
    """Only the number of workers changes nothing of what is measured."""
    asked = parameter_texts(find_notebooks() / "experiments" / "spoof.ipynb")
    assert asked.keys() - {"workers"} == PARAMETERS.keys()
    for name in ("noise_weight", "draws", "retries", "keep_normalisation"):
        assert ast.literal_eval(asked[name]) == PARAMETERS[name]
        spoofs = [{"task": "digits", "attack": "attack_2"} | changed for changed in ({}, {name: 1})]
        records = {str(n): record("spoof", made, {"weights.all.l2": 0.1}) for n, made in enumerate(spoofs)}
        assert set(averaged(tidy_runs(records))["repeats"]) == {1}


def test_debris_is_no_record(tmp_path):
    write_record(tmp_path, "whole", record("spoof", {"task": "digits"}, {"weights.all.l2": 0.1}))
    (tmp_path / "records" / "._whole.json").write_bytes(b"\0\5\x16\7")
    assert list(read_records(tmp_path)) == ["whole"]
