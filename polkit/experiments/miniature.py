"""Proof-of-learning with two weights, small enough to see: the whole story on a two-dimensional loss surface.

A logistic regression without bias, trained, recorded, replayed and forged as in `prover`, `replay` and `adversary`,
but every W is a point of a plane. Weights, losses and distances have no unit; steps are counted in updates. Every
random choice has a seed: the same seed for the same purpose is the same draw, and a longer run begins with it.
"""

from dataclasses import dataclass, replace

import numpy as np

WEIGHT_DECAY = 1e-3
# ζ = N(0, 0.2²) for each weight: W_0 lies about 3 from the minimum, which is at (0.68, 2.96) for seed 0.
INITIAL_DEVIATION = 0.2
# At the minimum the bowl is 16 times steeper along the first weight than along the second, so SGD first runs down
# the steep side and then along the valley: its path leaves the straight line by a fifth of that line's length.
FEATURE_SCALES = (2.0, 0.5)
CLASS_CENTRE = 0.8  # in standard deviations from zero, so that one point in seven lies on the wrong side


INITIALISATION, BATCHES, NOISE = range(3)  # streams of one seed


@dataclass(frozen=True, eq=False)
class Miniature:
    """A training task with two weights.

    features: the images, float64 (n, 2) · labels: int64 (n,), 0 or 1 · learning_rate: η · batch_size: B ·
    steps: T · checkpoint_interval: k · noise: what a verifier cannot repeat, as the standard deviation of a
    relative jitter of the images that is drawn anew by everyone who computes an update.
    """

    features: np.ndarray
    labels: np.ndarray
    learning_rate: float = 0.4
    batch_size: int = 50
    steps: int = 400
    checkpoint_interval: int = 10
    noise: float = 0.4  # makes δ 4 to 9 % of the way from W_0 to W_T, over 20 trainings

    def __post_init__(self):
        if self.steps % self.checkpoint_interval:
            raise ValueError(
                f"T = {self.steps} is not a multiple of the checkpoint interval k = {self.checkpoint_interval}"
            )
        if not 1 <= self.batch_size <= len(self.labels):
            raise ValueError(f"a batch of {self.batch_size} cannot be drawn from {len(self.labels)} points")


def miniature(seed: int = 0, **changes) -> Miniature:
    """200 points of two overlapping classes, drawn from `seed`, with `changes` to the fields of `Miniature`."""
    generator = np.random.default_rng(seed)
    labels = np.arange(200) % 2
    standardised = generator.normal(size=(200, 2)) + CLASS_CENTRE * (2 * labels[:, None] - 1)
    return replace(Miniature(standardised * FEATURE_SCALES, labels), **changes)


def loss(miniature: Miniature, weights: np.ndarray) -> np.ndarray:
    """L(f_W): mean cross-entropy over all points plus weight decay, without noise; weights (…, 2) -> (…)."""
    signed = miniature.features * (2 * miniature.labels[:, None] - 1)
    cross_entropy = np.logaddexp(0, -(weights @ signed.T)).mean(-1)
    return cross_entropy + WEIGHT_DECAY / 2 * (weights**2).sum(-1)


def gradient(weights: np.ndarray, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """∂L/∂W over one batch: weights (2,), features (B, 2), labels (B,) -> (2,)."""
    predicted = (1 + np.tanh(features @ weights / 2)) / 2  # the logistic function, which cannot overflow so written
    return (predicted - labels) @ features / len(labels) + WEIGHT_DECAY * weights


def initial_weights(seed: int) -> np.ndarray:
    """W_0 ~ ζ, float64 (2,)."""
    return np.random.default_rng([seed, INITIALISATION]).normal(scale=INITIAL_DEVIATION, size=2)


def batch_order(miniature: Miniature, seed: int, steps: int) -> np.ndarray:
    """𝕀: (steps, B), indices of points; a fresh shuffle each epoch (Algorithm 1, lines 3-4)."""
    generator, size = np.random.default_rng([seed, BATCHES]), miniature.batch_size
    per_epoch = len(miniature.labels) // size
    epochs = [generator.permutation(len(miniature.labels))[: per_epoch * size] for _ in range(-(-steps // per_epoch))]
    return np.concatenate(epochs).reshape(-1, size)[:steps]


def train(miniature: Miniature, seed: int) -> np.ndarray:
    """W_0, W_1, …, W_T: (T + 1, 2), by SGD with the initial weights, batches and noise of `seed` (Algorithm 1).

    A proof records every k-th of them.
    """
    return _updates(miniature, initial_weights(seed), _data(miniature, seed, seed, miniature.steps))


def replay(miniature: Miniature, path: np.ndarray, seed_of_batches: int, seed_of_noise: int) -> np.ndarray:
    """W'_k, W'_2k, …, W'_T: (T/k, 2), each k steps from the recorded W_{t-k} (Algorithm 2, lines 25-29).

    The recorded batches are the prover's, the noise is the verifier's own.
    """
    return _ends(miniature, path[:: miniature.checkpoint_interval], seed_of_batches, seed_of_noise)


def replay_errors(miniature: Miniature, path: np.ndarray, seed_of_batches: int, seed_of_noise: int) -> np.ndarray:
    """ε_repr: (T/k,), the l2 distance from each W'_t to the recorded W_t (Algorithm 2, line 30)."""
    replayed = replay(miniature, path, seed_of_batches, seed_of_noise)
    return _lengths(replayed - path[miniature.checkpoint_interval :: miniature.checkpoint_interval])


def delta(
    miniature: Miniature,
    path: np.ndarray,
    seed_of_batches: int,
    seed_of_noise: int,
    *,
    replays: int = 4,
    margin: float = 1.5,
) -> float:
    """δ: `margin` times the largest honest error of `replays` independent replays (Section II-D)."""
    draws = np.random.SeedSequence(seed_of_noise).generate_state(replays)
    return margin * max(replay_errors(miniature, path, seed_of_batches, int(draw)).max() for draw in draws)


def straight_path(first: np.ndarray, final: np.ndarray, points: int) -> np.ndarray:
    """Forged checkpoints (points, 2), "equally dividing the distance" from the adversary's W_0 to the stolen W_T
    (Section III-B); T' = (points - 1)·k."""
    if points < 2:
        raise ValueError(f"a path needs at least its two ends, not {points} points")
    return np.linspace(first, final, points)


def forged_errors(
    miniature: Miniature, forged: np.ndarray, seed_of_batches: int, seed_of_noise: int, *, harmless: bool = False
) -> np.ndarray:
    """ε_repr of forged checkpoints (m + 1, 2) -> (m,): l2 from k real updates to the next forged checkpoint.

    harmless: as if every batch had been perturbed until its update does not move the weights, the aim of Attacks
    II and III; then the error is the spacing of the checkpoints. Otherwise the data are unmodified.
    """
    if harmless:
        return _lengths(np.diff(forged, axis=0))
    return _lengths(_ends(miniature, forged, seed_of_batches, seed_of_noise) - forged[1:])


def _ends(miniature: Miniature, checkpoints: np.ndarray, seed_of_batches: int, seed_of_noise: int) -> np.ndarray:
    interval, count = miniature.checkpoint_interval, len(checkpoints) - 1
    features, labels = _data(miniature, seed_of_batches, seed_of_noise, count * interval)
    pieces = [slice(start, start + interval) for start in range(0, count * interval, interval)]
    pairs = zip(checkpoints, pieces, strict=False)  # nothing is replayed from the last
    return np.array([_updates(miniature, weights, (features[piece], labels[piece]))[-1] for weights, piece in pairs])


def _data(miniature: Miniature, seed_of_batches: int, seed_of_noise: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The batches of all steps as somebody sees them: jittered features (steps, B, 2) and labels (steps, B)."""
    batches = batch_order(miniature, seed_of_batches, steps)
    jitter = np.random.default_rng([seed_of_noise, NOISE]).normal(size=(*batches.shape, 2))
    return miniature.features[batches] * (1 + miniature.noise * jitter), miniature.labels[batches]


def _updates(miniature: Miniature, weights: np.ndarray, data: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    path = [weights]
    for features, labels in zip(*data, strict=True):
        path.append(path[-1] - miniature.learning_rate * gradient(path[-1], features, labels))
    return np.array(path)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=-1)
