"""The adversary's weights: a W_0 that is a true draw, and the straight path from it."""

from itertools import pairwise

import pytest
import torch

import polkit as pk
from polkit.training.models import Distribution


@pytest.fixture(scope="module")
def final(small_proof):
    return small_proof.final_weights()


def test_the_sorted_w_0_is_a_true_draw_that_passes_the_test_and_lies_nearer(small_task, final):
    first, drawn = pk.sorted_initialisation(small_task, final, 1), pk.initial_checkpoint(small_task, 1)
    assert pk.test_initialisation(small_task, first)["passed"].all()
    near, far = (pk.distances(weights, final.weights) for weights in (first.weights, drawn.weights))
    assert near["l2"] < 0.5 * far["l2"]
    for name, value in first.weights.items():  # the largest lies where W_T is largest, and so on
        order = final.weights[name].flatten().argsort()
        assert (value.flatten()[order].diff() >= 0).all(), name
    assert first.weights["norm.weight"].eq(1).all()
    assert not torch.equal(
        first.weights["conv.weight"], pk.sorted_initialisation(small_task, final, 2).weights["conv.weight"]
    )


def test_the_sorted_w_0_holds_the_very_numbers_of_its_draws(small_task, final, monkeypatch):
    drawn, draw = [], Distribution.draw

    def recorded(self, shape, generator):
        drawn.append(draw(self, shape, generator))
        return drawn[-1].clone()

    monkeypatch.setattr(Distribution, "draw", recorded)
    first = pk.sorted_initialisation(small_task, final, 1)
    assert len(drawn) == len(first.weights)
    for value, numbers in zip(first.weights.values(), drawn, strict=True):
        assert torch.equal(value.flatten().sort().values, numbers.flatten().sort().values)


def test_the_path_is_straight_equally_divided_and_exact_at_its_ends(small_task, final):
    first = pk.sorted_initialisation(small_task, final, 1)
    chain = [pk.on_the_path(first, final, number / 4) for number in range(5)]
    assert set(pk.distances(chain[0], first.weights).values()) == {0.0}
    assert set(pk.distances(chain[4], final.weights).values()) == {0.0}
    whole = pk.distances(chain[0], chain[4])
    for left, right in pairwise(chain):
        piece = pk.distances(left, right)
        assert [piece[name] for name in ("l1", "l2", "linf")] == pytest.approx(
            [whole[name] / 4 for name in ("l1", "l2", "linf")], rel=1e-4
        )
