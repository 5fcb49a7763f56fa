"""What the presets' verifiers measure on an honest proof, and the file that it is kept in."""

import json

import numpy as np
import pytest

from polkit.defences import load_standards
from polkit.defences.standards import spread_starts
from polkit.proof import Proof


def test_standards_are_what_was_saved(small_standards, tmp_path):
    file = tmp_path / "new" / "standards.json"
    small_standards.save(file)
    assert load_standards(file) == small_standards


@pytest.mark.parametrize(
    "change",
    [
        {"speed": -1.0},
        {"tight": {}},
        {"loose": {"weights": {"l1": "1"}}},
        {"stage_scales": [1.0, 2.0]},
        {"stage_edges": [0.5]},
        {"stretch": 0},
        {"conditions": {"precision": "int4"}},
        {"commitment": {"root": 5, "size": 10}},
        {"commitment": {"root": "00" * 32, "size": "x"}},
        {"commitment": {"root": "00"}},
        {"more": 1},
    ],
)
def test_what_are_no_standards_is_one_sentence(small_standards, tmp_path, change):
    file = tmp_path / "standards.json"
    small_standards.save(file)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=r"standards.json does not hold standards that `polkit calibrate --standards`"):
        load_standards(file)


def test_honest_intervals_are_looked_at_where_errors_are_largest(small_proof):
    assert spread_starts(small_proof, early=20, late=10) == [0, 4, 8, 12]
    long = Proof(small_proof.folder, small_proof.task, 4400, 10, {})
    starts = spread_starts(long, early=20, late=10)
    assert len(starts) == 30
    assert sum(start < 550 for start in starts) == 20
    assert np.diff(starts).min() >= 10
    assert starts[-1] >= 4000
