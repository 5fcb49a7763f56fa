import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.spatial import distance as scipy_distance

import polkit as pk


def weight_sets(seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (3, 4), "b": (7,), "c": (2, 1, 5), "scalar": ()}
    return [{name: torch.randn(shape, generator=generator) for name, shape in shapes.items()} for _ in range(2)]


def flat(weights):
    return np.concatenate([value.numpy().ravel() for value in weights.values()]).astype(np.float64)


@pytest.mark.parametrize("seed", range(5))
def test_the_four_distances_are_scipys(seed):
    left, right = weight_sets(seed)
    a, b = flat(left), flat(right)
    expected = {
        "l1": scipy_distance.cityblock(a, b),
        "l2": scipy_distance.euclidean(a, b),
        "linf": scipy_distance.chebyshev(a, b),
        "cos": scipy_distance.cosine(a, b),
    }
    assert pk.distances(left, right) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("apart", [1e-4, 1e-8, 1e-12])
def test_the_cosine_of_close_neighbours_is_no_rounding_noise(apart):
    """Held to rational numbers, in which 1 - a·b / (‖a‖‖b‖) can be had to any precision."""
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(200, generator=generator, dtype=torch.float64)
    right = left * (1 + apart * torch.randn(200, generator=generator, dtype=torch.float64))
    a, b = ([Fraction(value) for value in side.tolist()] for side in (left, right))
    inner, one, other = (sum(x * y for x, y in zip(*pair, strict=True)) for pair in ((a, b), (a, a), (b, b)))
    with localcontext(prec=60):
        norms = (Decimal(one.numerator) / one.denominator * other.numerator / other.denominator).sqrt()
        exact = float(1 - Decimal(inner.numerator) / inner.denominator / norms)
    found = pk.distances({"a": left}, {"a": right})["cos"]
    assert found == pytest.approx(exact, rel=max(1e-15 / apart, 1e-10))
    assert found > 0


def test_equal_weights_are_at_distance_exactly_zero():
    left, _ = weight_sets(0)
    assert set(pk.distances(left, left).values()) == {0.0}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["a", "scalar"])
def test_no_distance_of_a_broken_weight_is_within_any_threshold(value, name):
    left, right = weight_sets(0)
    left[name] = torch.full_like(left[name], value)
    assert not any(error <= 1e300 for error in pk.distances(left, right).values())


def test_cosine_of_zero_vectors():
    zero, one = {"a": torch.zeros(3)}, {"a": torch.ones(3)}
    assert pk.distances(zero, zero)["cos"] == 0.0
    assert pk.distances(zero, one)["cos"] == 1.0


def test_other_names_or_shapes_are_refused():
    with pytest.raises(ValueError, match="name different tensors: b"):
        pk.distances({"a": torch.ones(2)}, {"a": torch.ones(2), "b": torch.ones(1)})
    with pytest.raises(ValueError, match=r"a has shape \(2,\) in one, \(3,\) in the other"):
        pk.distances({"a": torch.ones(2)}, {"a": torch.ones(3)})


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("name", ["a", "b", "c", "scalar"])
def test_one_nan_anywhere_makes_every_distance_nan(name, side):
    pair = weight_sets(1)
    pair[side][name].view(-1)[-1] = float("nan")
    assert all(math.isnan(error) for error in pk.distances(*pair).values())


def test_distances_do_not_depend_on_side_or_on_the_order_of_names():
    left, right = weight_sets(2)
    turned = dict(reversed(right.items()))
    assert pk.distances(left, turned) == pk.distances(left, right)
    assert pk.distances(turned, left) == pytest.approx(pk.distances(left, right), rel=1e-15)


def test_sums_are_taken_in_float64():
    # In float32, 2^24 + 1 = 2^24, so that a float32 sum would lose the small differences.
    left, right = {"a": torch.zeros(3)}, {"a": torch.tensor([2.0**24, 1.0, 1.0])}
    assert pk.distances(left, right)["l1"] == 2**24 + 2
    assert pk.distances({"a": torch.tensor([2.0**24])}, {"a": torch.tensor([-1.0])})["linf"] == 2**24 + 1


def test_opposite_and_orthogonal_weights():
    left = {"a": torch.tensor([1.0, 0.0])}
    assert pk.distances(left, {"a": torch.tensor([-3.0, 0.0])})["cos"] == 2.0
    assert pk.distances(left, {"a": torch.tensor([0.0, 5.0])})["cos"] == 1.0
