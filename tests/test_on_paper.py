"""Trainings that are too large to run, counted by hand."""

import pytest

from polkit.experiments.on_paper import Training, at_scale, language_model, paper_storage, paper_trainings


def test_large_trainings_by_hand():
    ten = paper_storage().set_index(["training", "k"]).loc[("cifar10, resnet20", 10)]
    # 7,801 checkpoints of 269,722 weights, as many momenta, 1,376 buffers, 4 bytes each.
    assert ten["gigabytes"] * 1e9 == pytest.approx(7801 * 4 * (2 * 269_722 + 2 * 688), rel=1e-12)
    assert {each.name: each.steps for each in paper_trainings()} == {
        "cifar10, resnet20": 78_000,
        "cifar100, resnet50": 78_000,
        "imagenet10, resnet18": 20_200,
    }
    tiny = Training("tiny", steps=25, weights=3, buffers=1, states=2, update_operations=1.0)
    assert tiny.stored_bytes(10) == 4 * (3 + 6 + 1) * 4
    large = at_scale(1e15).set_index("training").loc["1,000,000,000 parameters"]
    # 6 operations for each of 10^9 parameters and 2·10^10 tokens, a whole number of steps.
    assert large["training_days"] == pytest.approx(1.2e20 / 1e15 / 86400, rel=1e-4)
    assert language_model().stored_bytes(38_146) == 2 * 4 * 3 * 10**9
