"""Trainings that are too large to run, counted by hand."""

import nbformat
import pytest

from polkit.book.chapters import appendices


def run_appendix(letter):
    """What the code of an appendix leaves behind, all of it run here."""
    (file,) = [file for file in appendices() if file.stem.startswith(f"{letter}_")]
    found = {}
    for cell in nbformat.read(file, as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, found)
    return found


def test_the_paper_s_proofs_by_hand():
    table = run_appendix("B")["paper_proofs"].set_index(["training", "k"])
    # 7,801 checkpoints of 269,722 weights, as many momenta, 1,376 buffers, 4 bytes each.
    found = table.loc[("cifar10, resnet20", 10)]
    assert found["gigabytes"] * 1e9 == pytest.approx(7801 * 4 * (2 * 269_722 + 2 * 688), rel=1e-12)
    assert found["weights_gigabytes"] * 1e9 == pytest.approx(7801 * 4 * (269_722 + 2 * 688), rel=1e-12)
    assert table.xs(100, level="k")["steps"].to_dict() == {
        "cifar10, resnet20": 78_000,
        "cifar100, resnet50": 78_000,
        "imagenet10, resnet18": 20_200,
    }


def test_large_trainings_of_appendix_i_by_hand():
    table = run_appendix("I")["at_scale"]
    images, language = table.loc["ImageNet, ResNet-50"], table.loc["a billion parameters"]
    assert images["steps"] == 5004 * 90  # ⌊1,281,167 / 256⌋ batches an epoch
    # 25,557,032 weights, as many momenta, the mean and variance of 26,560 normalised channels; 4,504 times and the end.
    assert images["terabytes"] == pytest.approx(4 * (2 * 25_557_032 + 2 * 26_560) * 4505 / 1e12, abs=0.005)
    # 6 operations for each of 10^9 parameters and 2·10^10 tokens, a whole number of steps, at 10^14 a second.
    assert language["training_days"] == pytest.approx(1.2e20 / 1e14 / 86400, abs=0.005)
    assert language["verifying_hours"] == pytest.approx(100 * 100 * 6e9 * 2**19 / 1e14 / 3600, abs=0.005)
    assert language["terabytes"] == pytest.approx(4 * 3e9 * (381 + 2) / 1e12, abs=0.005)
