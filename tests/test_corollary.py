"""Corollary 1 on a smooth model whose α and β are known: softmax regression."""

import numpy as np
import pytest

import polkit as pk

POINTS, FEATURES, CLASSES = 20, 6, 3


def problem(seed, count):
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(count, POINTS, FEATURES))
    return inputs, generator.integers(0, CLASSES, (count, POINTS)), generator.normal(size=(FEATURES, CLASSES))


def gradient(weights, inputs, labels):
    """Of the mean cross-entropy of softmax regression, C^∞ in the weights."""
    logits = inputs @ weights
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    probabilities[np.arange(len(labels)), labels] -= 1
    return inputs.T @ probabilities / len(labels)


def suprema(inputs):
    """α: ‖p - y‖ ≤ √2 for each point · β: the softmax Hessian has norm at most 1/2, times ‖x‖²; over all W."""
    norms = np.linalg.norm(inputs, axis=2)
    return np.sqrt(2) * norms.mean(axis=1).max(), 0.5 * (norms**2).mean(axis=1).max()


def separate_and_joint(weights, inputs, labels, rate, momentum):
    moving, buffer = weights.copy(), np.zeros_like(weights)
    joint = weights.copy()
    count = len(inputs)
    for number in range(count):
        buffer = momentum * buffer + gradient(moving, inputs[number], labels[number])
        moving = moving - rate * buffer
        carried = sum(momentum**later for later in range(count - number))
        joint = joint - rate * carried * gradient(weights, inputs[number], labels[number])
    return moving, joint


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("k", range(1, 11))
def test_the_bound_holds_on_a_smooth_model(k, momentum):
    for seed in range(10):
        inputs, labels, weights = problem(seed, k)
        alpha, beta = suprema(inputs)
        moving, joint = separate_and_joint(weights, inputs, labels, 0.05, momentum)
        bound = pk.corollary_bound(
            learning_rate=0.05, checkpoint_interval=k, first_derivative=alpha, second_derivative=beta, momentum=momentum
        )
        assert np.linalg.norm(moving - joint) <= bound + 1e-12
        if k > 1:
            assert np.linalg.norm(moving - joint) > 0


def test_as_printed_it_claims_no_gap_between_two_updates_and_one():
    inputs, labels, weights = problem(0, 2)
    alpha, beta = suprema(inputs)
    known = {"learning_rate": 0.05, "checkpoint_interval": 2, "first_derivative": alpha, "second_derivative": beta}
    moving, joint = separate_and_joint(weights, inputs, labels, 0.05, 0.0)
    assert pk.corollary_bound(**known, as_printed=True) == 0
    assert 1e-4 < np.linalg.norm(moving - joint) <= pk.corollary_bound(**known)


def test_without_momentum_it_is_the_sum_the_proof_should_have_taken():
    for k in (2, 10, 100):
        known = {"learning_rate": 0.1, "checkpoint_interval": k, "first_derivative": 0.03, "second_derivative": 0.025}
        assert pk.corollary_bound(**known) == pytest.approx(0.1**2 * 0.03 * 0.025 * k * (k - 1) / 2)
        printed = 0.1**2 * 0.03 * 0.025 * (k - 1) * (k - 2) / 2
        assert pk.corollary_bound(**known, as_printed=True) == pytest.approx(printed)


def test_the_table_measures_what_it_says(small_task, small_proof):
    table = pk.corollary_table(small_proof.final_weights(), small_task, intervals=(1, 2, 4)).set_index("k")
    assert table.loc[1, "measured_gap"] < 1e-5  # one update is its own joint update, but for rounding
    assert 0 < table.loc[2, "measured_gap"] < table.loc[4, "measured_gap"]
    assert (table["alpha"] > 0).all()
    assert (table["beta"] > 0).all()


def test_more_batches_than_an_interval_has_can_be_looked_at(small_task, small_proof):
    short = small_task.replace(checkpoint_interval=1)
    table = pk.corollary_table(small_proof.final_weights(), short, intervals=(2, 3))
    usual = pk.corollary_table(small_proof.final_weights(), small_task, intervals=(2, 3))
    assert table["k"].tolist() == [2, 3]
    assert table["measured_gap"].tolist() == pytest.approx(usual["measured_gap"].tolist(), rel=1e-3)
