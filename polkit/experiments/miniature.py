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
REPLAYS, MARGIN = 4, 1.5  # of the calibration of δ


@dataclass(frozen=True, eq=False)
class Miniature:
    """A training task with two weights."""

    features: np.ndarray  # the images, float64 (n, 2)
    labels: np.ndarray  # int64 (n,), 0 or 1
    learning_rate: float = 0.4  # η
    batch_size: int = 50  # B
    steps: int = 400  # T
    checkpoint_interval: int = 10  # k
    # What a verifier cannot repeat: the standard deviation of a relative jitter of the images, drawn anew by everyone
    # who computes an update. It makes δ 4 to 9% of the way from W_0 to W_T, over 20 trainings.
    noise: float = 0.4

    def __post_init__(self):
        if self.steps % self.checkpoint_interval:
            raise ValueError(
                f"T = {self.steps} is not a multiple of the checkpoint interval k = {self.checkpoint_interval}"
            )


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


def batch_order(miniature: Miniature, seed: int) -> np.ndarray:
    """𝕀: (T, B), indices of points; a fresh shuffle each epoch (Algorithm 1, lines 3-4)."""
    generator, size, steps = np.random.default_rng([seed, BATCHES]), miniature.batch_size, miniature.steps
    per_epoch = len(miniature.labels) // size
    epochs = [generator.permutation(len(miniature.labels))[: per_epoch * size] for _ in range(-(-steps // per_epoch))]
    return np.concatenate(epochs).reshape(-1, size)[:steps]


def train(miniature: Miniature, seed: int) -> np.ndarray:
    """W_0, W_1, …, W_T: (T + 1, 2), by SGD with the initial weights, batches and noise of `seed` (Algorithm 1).

    A proof records every k-th of them.
    """
    return _updates(miniature, initial_weights(seed), *_data(miniature, seed, seed))


def replayed_paths(miniature: Miniature, path: np.ndarray, seed_of_batches: int, seed_of_noise: int) -> np.ndarray:
    """Each recorded W_{t-k} and the k updates of its replay: (T/k, k + 1, 2) (Algorithm 2, lines 25-29).

    The recorded batches are the prover's, the noise is the verifier's own.
    """
    features, labels = _data(miniature, seed_of_batches, seed_of_noise)
    k = miniature.checkpoint_interval
    starts = range(0, miniature.steps, k)
    return np.array([_updates(miniature, path[t], features[t : t + k], labels[t : t + k]) for t in starts])


def replay(miniature: Miniature, path: np.ndarray, seed_of_batches: int, seed_of_noise: int) -> np.ndarray:
    """W'_k, W'_2k, …, W'_T: (T/k, 2), where the replays from the recorded W_{t-k} end."""
    return replayed_paths(miniature, path, seed_of_batches, seed_of_noise)[:, -1]


def replay_errors(miniature: Miniature, path: np.ndarray, seed_of_batches: int, seed_of_noise: int) -> np.ndarray:
    """ε_repr: (T/k,), the l2 distance from each W'_t to the recorded W_t (Algorithm 2, line 30)."""
    ends, k = replay(miniature, path, seed_of_batches, seed_of_noise), miniature.checkpoint_interval
    return np.linalg.norm(ends - path[k::k], axis=-1)


def delta(miniature: Miniature, path: np.ndarray, seed_of_batches: int, seed_of_noise: int) -> float:
    """δ: MARGIN times the largest honest error of independent replays (Section II-D)."""
    draws = np.random.SeedSequence(seed_of_noise).generate_state(REPLAYS)
    return MARGIN * max(replay_errors(miniature, path, seed_of_batches, int(draw)).max() for draw in draws)


@dataclass(frozen=True, eq=False)
class Compared:
    """An honest path and a forged one to the same W_T, and one replayed interval of each."""

    path: np.ndarray  # W_0, …, W_T: (T + 1, 2)
    interval: int  # k
    forged: np.ndarray  # (pieces + 1, 2)
    threshold: float  # δ
    replays: dict[str, np.ndarray]  # name -> (updates + 1, 2), as seen from the end that was recorded


def compared_paths() -> Compared:
    """A short training, and forgeries in eight pieces, and in as many as δ asks for. The forger's batches move
    nothing, so that a replay of theirs ends where it begins."""
    task = miniature(steps=160, checkpoint_interval=20)
    path, k = train(task, seed=0), task.checkpoint_interval
    threshold, forged = delta(task, path, 0, 2), straight_path(initial_weights(8), path[-1], 8 + 1)
    few = forged[0] - forged[1]
    more = few / np.ceil(np.linalg.norm(few) / threshold)
    replays = {
        "honest": replayed_paths(task, path, 0, 1)[1] - path[2 * k],
        "forged, few pieces": np.array([few, few]),
        "forged, more pieces": np.array([more, more]),
    }
    return Compared(path, k, forged, threshold, replays)


def straight_path(first: np.ndarray, final: np.ndarray, points: int) -> np.ndarray:
    """Forged checkpoints (points, 2), "equally dividing the distance" from the adversary's W_0 to the stolen W_T
    (Section III-B); T' = (points - 1)·k."""
    return np.linspace(first, final, points)


def forged_errors(forged: np.ndarray) -> np.ndarray:
    """ε_repr of forged checkpoints (m + 1, 2) -> (m,), if every batch was perturbed until its update does not move the
    weights, the aim of Attacks II and III: the l2 spacing of the checkpoints."""
    return np.linalg.norm(np.diff(forged, axis=0), axis=-1)


def _data(miniature: Miniature, seed_of_batches: int, seed_of_noise: int) -> tuple[np.ndarray, np.ndarray]:
    """The batches of all steps as somebody sees them: jittered features (T, B, 2) and labels (T, B)."""
    batches = batch_order(miniature, seed_of_batches)
    jitter = np.random.default_rng([seed_of_noise, NOISE]).normal(size=(*batches.shape, 2))
    return miniature.features[batches] * (1 + miniature.noise * jitter), miniature.labels[batches]


def _updates(miniature: Miniature, weights: np.ndarray, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The given weights, and those after each update: (steps + 1, 2)."""
    path = [weights]
    for seen, told in zip(features, labels, strict=True):
        path.append(path[-1] - miniature.learning_rate * gradient(path[-1], seen, told))
    return np.array(path)
