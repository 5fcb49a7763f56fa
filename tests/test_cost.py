"""Meters against counts by hand: 2 operations per multiplication and addition, from the shapes of each layer."""

import math
import time
from collections import Counter

import pytest
import torch
from torch import nn

import polkit as pk
from polkit.training.cost import Meter
from polkit.training.models import build_model


def forward_operations(task):
    """2 · outputs · inputs of one output, summed over layers; and the first layer's share of it."""
    counted = []

    def count(layer, _, output):
        counted.append(2 * output.numel() * layer.weight[0].numel())

    with torch.device("meta"):
        model = build_model(task)
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(count)
        model(torch.empty(task.batch_size, *task.image_shape))
    return sum(counted), counted[0]


large = [pytest.param(name, marks=pytest.mark.slow) for name in ("cifar100", "imagenet10")]


@pytest.mark.parametrize("name", ["digits", "cifar10", *large])
def test_operations_are_counted_layer_by_layer(name):
    task = pk.task(name)
    whole, first = forward_operations(task)
    units = pk.unit_costs(task)
    assert units["forward"].floating_point_operations == whole
    # Backward, each layer costs its forward pass twice: for its weights and for its inputs. The images need none.
    assert units["update"].floating_point_operations == 3 * whole - first
    # The objective differentiates that once more, this time down to the images.
    assert units["objective"].floating_point_operations > units["update"].floating_point_operations + whole


def test_operations_grow_with_the_batch_and_with_nothing_else():
    task = pk.task("digits")
    one, three = (pk.unit_costs(task.replace(batch_size=size)) for size in (32, 96))
    longer = pk.unit_costs(task.replace(batch_size=32, epochs=20))
    for kind in ("forward", "update", "objective"):
        assert three[kind].floating_point_operations == 3 * one[kind].floating_point_operations
        assert three[kind].gradient_evaluations == one[kind].gradient_evaluations
        assert longer[kind] == one[kind]


def test_the_papers_currency():
    evaluations = {kind: unit.gradient_evaluations for kind, unit in pk.unit_costs(pk.task("digits")).items()}
    assert evaluations == {"forward": 0, "update": 1, "objective": 3}


def test_costs_add_meter_by_meter():
    assert pk.Cost(1.5, 20, 3.0, 4) + pk.Cost(10.0, 200, 30.0, 40) == pk.Cost(11.5, 220, 33.0, 44)
    assert pk.Cost() + pk.Cost(1.0, 2, 3.0, 4) == pk.Cost(1.0, 2, 3.0, 4)


def test_a_fraction_of_nothing_is_not_a_number():
    relative = pk.Cost(1.0, 30, 2.0, 5).relative_to(pk.Cost(4.0, 10, 0.0, 0))
    assert (relative["gradient_evaluations"], relative["floating_point_operations"]) == (0.25, 3.0)
    assert math.isnan(relative["wall_seconds"])
    assert math.isnan(relative["stored_bytes"])


def test_a_meter_charges_what_it_is_told_and_no_other_kind():
    meter = Meter({"forward": pk.Cost(0, 7), "update": pk.Cost(1, 20)})
    fresh = meter.cost()
    assert (fresh.gradient_evaluations, fresh.floating_point_operations, fresh.stored_bytes) == (0.0, 0, 0)
    meter.charge("forward", 3)
    meter.charge("update", batches=4)
    spent = meter.cost()
    assert (spent.gradient_evaluations, spent.floating_point_operations) == (1.0, 3 * 7 + 4 * 20)
    assert meter.counts == {"forward": 3, "update": 1}
    assert 0 < fresh.wall_seconds < spent.wall_seconds
    with pytest.raises(KeyError, match="objective"):
        meter.charge("objective")
    assert meter.cost().floating_point_operations == spent.floating_point_operations


def test_what_workers_spent_counts_in_place_of_the_wait_for_them():
    meter = Meter({"update": pk.Cost(1, 10)})

    def made():
        for number in range(3):
            time.sleep(0.2)  # a wait, in which two workers were busy for 0.5 s in all
            yield number, pk.Cost(2, 20, wall_seconds=0.5), Counter(update=2)

    found = []
    for number in meter.collect(made()):
        found.append(number)
        time.sleep(0.05)  # this party's own work
    meter.charge("update")
    cost = meter.cost()
    assert found == [0, 1, 2]
    assert (cost.gradient_evaluations, cost.floating_point_operations, meter.counts["update"]) == (7, 70, 7)
    assert 1.65 <= cost.wall_seconds < 2.2


def test_a_joint_gradient_counts_once_for_the_paper_and_k_times_in_operations():
    meter = Meter({"update": pk.Cost(1, 100), "objective": pk.Cost(3, 270)})
    meter.charge("update", 5)
    meter.charge("objective", 2, batches=10)
    cost = meter.cost()
    assert (cost.gradient_evaluations, cost.floating_point_operations) == (5 + 6, 500 + 5400)
    assert meter.counts == {"update": 5, "objective": 2}
    assert cost.wall_seconds > 0
    assert (cost + cost).floating_point_operations == 11800
