"""Who judges how: what a verifier leaves to the prover, what it replays, and what it compares."""

import re
from dataclasses import asdict, dataclass, replace
from numbers import Integral

from polkit.training import PARTS, Conditions, Task
from polkit.training.conditions import PRECISIONS

# What a prover may decide of its optimiser. In the public code of Jia et al. it decides all of it.
OPTIMISER = ("learning_rate", "momentum", "weight_decay", "milestones", "learning_rate_drop")
SETTINGS = (*OPTIMISER, "batch_size", "checkpoint_interval")  # "different T, k and batch size" (Section IV-A)
AUGMENTATIONS = ("none", "recorded", "redrawn")


@dataclass(frozen=True)
class Regime:
    """The rules under which a number was measured. Each number of the book belongs to one."""

    name: str
    prover_decides: tuple[str, ...]  # of SETTINGS: those that the replay takes from the proof
    augmentation: str  # none: images as they are stored; recorded: the prover's draws; redrawn: the verifier's own
    parts: tuple[str, ...]  # of a checkpoint, that must stay within δ
    precision: str  # of the verifier's steps: float32, bf16 or float64; "": that of the Conditions of `calibrate`
    top_q: int | str  # Q, how many of each epoch's largest updates are replayed, or "all"

    def __post_init__(self):
        if not re.fullmatch(r"[a-z0-9][a-z0-9 -]{0,39}", self.name):
            raise ValueError(f"the regime's name {self.name!r} must be of small letters, digits, spaces and hyphens")
        for field, found, known in (
            ("prover_decides", self.prover_decides, SETTINGS),
            ("augmentation", (self.augmentation,), AUGMENTATIONS),
            ("parts", self.parts, PARTS),
            ("precision", (self.precision,), ("", *PRECISIONS)),
        ):
            if set(found) - set(known):
                raise ValueError(f"the regime's {field} is {found!r}: choose from {', '.join(filter(None, known))}")
        if not self.parts:
            raise ValueError(f"the regime's parts are empty: choose from {', '.join(PARTS)}")
        object.__setattr__(self, "top_q", checked_q(self.top_q))

    def replace(self, **changes) -> "Regime":
        """The same regime with other rules, under the name `custom` unless it is given one."""
        return replace(self, **{"name": "custom"} | changes)

    def task(self, task: Task) -> Task:
        """The task as it is trained here: without augmentation nothing is shifted or flipped."""
        return task.replace(shift=0, flip=False) if self.augmentation == "none" else task

    def conditions(self, own: Conditions) -> Conditions:
        """How the verifier replays on the machine that `own` describes."""
        drawn = "redraw" if self.augmentation == "redrawn" else "replay"
        return own.replace(augmentation=drawn, precision=self.precision or own.precision)

    def to_json(self) -> dict:
        return asdict(self) | {"prover_decides": list(self.prover_decides), "parts": list(self.parts)}

    @staticmethod
    def from_json(values: dict) -> "Regime":
        """Raises ValueError or TypeError if this is not a regime."""
        lists = {name: tuple(values[name]) for name in ("prover_decides", "parts")}
        texts = [values[name] for name in ("name", "augmentation", "precision")]
        if any(type(each) is not str for part in (*lists.values(), texts) for each in part):
            raise ValueError("a regime's rules must be given as words")
        return Regime(**values | lists)


def checked_q(top_q: int | str) -> int | str:
    """Q, a whole number as Python's own; ValueError if it is none."""
    if isinstance(top_q, Integral) and not isinstance(top_q, bool) and top_q >= 1:
        return int(top_q)
    if isinstance(top_q, str) and top_q == "all":
        return top_q
    raise ValueError(f"top_q is {top_q!r}: Q is a whole number of intervals per epoch from 1 up, or 'all'")


# As the public code of Zhang et al. replays a spoof: the images as they are, the prover's optimiser, the weights alone.
# Their verifier rounds otherwise than the prover; here bf16 stands for that. Q = 1 is one of the two of Section IV-A.
PAPER = Regime("paper", SETTINGS, "none", ("weights",), "bf16", 1)
# A careful verifier: its own optimiser, augmentation that nobody could prepare for, everything compared and replayed.
STRICT = Regime("strict", (), "redrawn", PARTS, "", "all")
REGIMES = {each.name: each for each in (PAPER, STRICT)}


def regime(name: str) -> Regime:
    """The regime of a name: `paper` or `strict`. Raises ValueError for another."""
    if name not in REGIMES:
        raise ValueError(f"there is no regime {name!r}; the regimes are {', '.join(REGIMES)}")
    return REGIMES[name]
