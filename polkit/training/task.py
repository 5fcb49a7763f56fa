"""What is trained, and how: the auxiliary information 𝔸 of a proof (Definition 1, Section IV-A)."""

import math
import os
import sys
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral, Real
from pathlib import Path

HALVES = ("first-half", "second-half")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
DEBRIS = ("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found")  # and what begins with a dot


def whole(name: str, value: object, least: float = -math.inf) -> int:
    """A whole number from `least` up, numpy's own too, as Python's; ValueError for others: 1.0, "7" and True."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        up = f" from {least} up" if least > -math.inf else ""
        raise ValueError(f"{name} must be a whole number{up}, not {value!r}")
    return int(value)


@dataclass(frozen=True)
class Task:
    """A training task: data set, model, optimiser, schedule, and how often to record a checkpoint."""

    data: str  # a name in NAMED_TASKS, or `folder:PATH`
    model: str
    classes: int
    image_shape: tuple[int, int, int]  # channels, height, width, in pixels
    train_size: int  # images used
    batch_size: int  # B
    epochs: int  # E
    checkpoint_interval: int  # k, in steps
    learning_rate: float  # η, before any drop
    momentum: float
    weight_decay: float
    milestones: tuple[int, ...]  # epochs at whose start η is divided by `learning_rate_drop`
    learning_rate_drop: float
    shift: int  # largest random shift, in pixels
    flip: bool  # whether images are mirrored at random
    half: str = ""  # one of the two disjoint halves of the training set (Figures 8 and 9); "" for the whole

    def __post_init__(self):
        counts = {"classes": 1, "train_size": 1, "batch_size": 1, "epochs": 1, "checkpoint_interval": 1, "shift": 0}
        for name, least in counts.items():
            object.__setattr__(self, name, whole(f"task {self.name}: {name}", getattr(self, name), least))
        for name in ("learning_rate", "momentum", "weight_decay", "learning_rate_drop"):
            number = getattr(self, name)
            number = float(number) if isinstance(number, Real) and not isinstance(number, Integral) else number
            if isinstance(number, bool) or not isinstance(number, Real) or not abs(number) <= sys.float_info.max:
                raise ValueError(f"task {self.name}: {name} must be a finite number, not {number!r}")
            object.__setattr__(self, name, float(number))
        for name in ("image_shape", "milestones"):
            object.__setattr__(self, name, tuple(whole(f"task {self.name}: {name}", n) for n in getattr(self, name)))
        if self.half and self.half not in HALVES:
            raise ValueError(f"task {self.data}: the half {self.half!r} must be one of {', '.join(HALVES)}")
        if self.train_size < self.batch_size:
            images = f"{self.train_size} training images"
            raise ValueError(f"task {self.name}: {images} do not fill one batch of {self.batch_size}")
        if self.checkpoint_interval > self.steps:
            k, limit = self.checkpoint_interval, f"the number of training steps T = {self.steps}"
            raise ValueError(f"task {self.name}: the checkpoint interval k = {k} must not exceed {limit}")

    @property
    def name(self) -> str:
        return f"{self.data}:{self.half}" if self.half else self.data

    @property
    def steps_per_epoch(self) -> int:
        return self.train_size // self.batch_size

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def learning_rate_at(self, step: int) -> float:
        """η at a step counted from 0; a claim with fewer steps than T keeps the early, large rates."""
        drops = sum(step // self.steps_per_epoch >= milestone for milestone in self.milestones)
        return self.learning_rate / self.learning_rate_drop**drops

    def differs(self, other: "Task") -> list[str]:
        """The fields in which a proof of `other` does not suit this task; a proof may bring data of its own."""
        mine, theirs = self.to_json(), other.to_json()
        return [name for name in mine if name not in ("data", "half", "train_size") and mine[name] != theirs[name]]

    def replace(self, **changes) -> "Task":
        """The same task with other values; milestones move with `epochs`, to 1 at least, unless they are given too."""
        known = [field.name for field in fields(self)]
        if unknown := sorted(set(changes) - set(known)):
            raise ValueError(f"a task has no {', '.join(unknown)}; it has {', '.join(known)}")
        if "epochs" in changes and "milestones" not in changes:
            epochs = whole("epochs", changes["epochs"])
            # Never to 0: a training of one epoch would begin, and end, at a hundredth of its rate.
            changes["milestones"] = tuple(max(1, m * epochs // self.epochs) for m in self.milestones)
        return replace(self, **changes)

    def without_place(self) -> "Task":
        """As a proof names it: a folder of images by its last part alone, which says nothing about its maker."""
        return replace(self, data=shown_task(self.data))

    def to_json(self) -> dict:
        data = os.fsencode(self.data).decode(errors="backslashreplace")
        return asdict(self) | {"data": data, "image_shape": [*self.image_shape], "milestones": [*self.milestones]}

    @staticmethod
    def from_json(values: dict) -> "Task":
        """Raises ValueError if a field is missing, unknown, or of another type than the task's own."""
        kinds = {field.name: field.type for field in fields(Task)}
        if not isinstance(values, dict) or set(values) != set(kinds):
            raise ValueError(f"a task is an object with the fields {', '.join(kinds)}")
        return Task(**{name: _typed(name, kind, values[name]) for name, kind in kinds.items()})


def _typed(name: str, kind: type, value: object) -> object:
    """A JSON value that has the type of a field of a task: a list for a tuple, a whole number, too, for a float."""
    wanted = list if kind in (tuple[int, int, int], tuple[int, ...]) else kind
    if type(value) is not wanted and (wanted, type(value)) != (float, int):
        raise ValueError(f"the task's {name} must be of type {wanted.__name__}, not {value!r}")
    if name == "image_shape" and len(value) != 3:
        raise ValueError("the task's image_shape must be [channels, height, width]")
    return value


CIFAR10 = Task(
    data="cifar10",
    model="resnet20",
    classes=10,
    image_shape=(3, 32, 32),
    train_size=50_000,
    batch_size=128,
    epochs=200,
    checkpoint_interval=100,
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    milestones=(100, 150),
    learning_rate_drop=10.0,
    shift=4,
    flip=True,
)

CIFAR100 = CIFAR10.replace(
    data="cifar100", model="resnet50", classes=100, weight_decay=5e-4, milestones=(60, 120, 160), learning_rate_drop=5.0
)

IMAGENET10 = CIFAR10.replace(
    data="imagenet10", model="resnet18", image_shape=(3, 128, 128), train_size=13_000, shift=16
)

DIGITS = CIFAR10.replace(
    data="digits",
    model="resnet8",
    image_shape=(1, 8, 8),
    train_size=1408,
    batch_size=64,
    checkpoint_interval=10,
    learning_rate=0.05,
    shift=1,
    flip=False,
)

FASHION = DIGITS.replace(data="fashion", image_shape=(1, 28, 28), train_size=6400, epochs=25)

NAMED_TASKS = {named.data: named for named in (DIGITS, FASHION, CIFAR10, CIFAR100, IMAGENET10)}


def task(name: str, *, epochs: int = 0, checkpoint_interval: int = 0, train_size: int = 0) -> Task:
    """The task of a name: `digits`, `fashion`, `cifar10`, `cifar100`, `imagenet10` or `folder:PATH`.

    `:first-half` or `:second-half` at the end names one of the two disjoint halves of its training set.
    Of `epochs`, `checkpoint_interval` and `train_size`, 0 leaves the task's own.
    Raises ValueError for an unknown name and FileNotFoundError for a folder without images.
    """
    base, _, half = name.rpartition(":")
    if not base or half not in HALVES:
        base, half = name, ""
    if base.startswith("folder:"):
        base = f"folder:{os.path.expanduser(base.removeprefix('folder:'))}"  # within a word no shell does it
        train = split_folder(Path(base.removeprefix("folder:")), train=True)
        classes = class_folders(train)
        images = sum(len(pictures(train / name)) for name in classes)
        if not images:
            raise FileNotFoundError(
                f"{train} holds no pictures in folders of their classes ({', '.join(IMAGE_SUFFIXES)})"
            )
        used = max(1, min(images, train_size or images // (2 if half else 1)))  # few images are one batch
        batch = min(used, CIFAR10.batch_size)
        base_task = CIFAR10.replace(data=base, classes=len(classes), train_size=images, batch_size=batch)
    elif base in NAMED_TASKS:
        base_task = NAMED_TASKS[base]
    else:
        raise ValueError(f"there is no task {name!r}; the tasks are {', '.join(NAMED_TASKS)} and folder:PATH")
    changes = {"half": half, "train_size": train_size or (base_task.train_size // 2 if half else 0)}
    changes |= {"epochs": epochs, "checkpoint_interval": checkpoint_interval}
    return base_task.replace(**{field: value for field, value in changes.items() if value})


def split_folder(path: Path, train: bool) -> Path:
    """PATH/train, or PATH/test (else PATH/val), each with one folder of images per class."""
    names = ["train"] if train else ["test", "val"]
    found = [path / name for name in names if (path / name).is_dir()]
    if not found:
        raise FileNotFoundError(f"{path} has no folder {' or '.join(names)} with one folder of images per class")
    return found[0]


def is_debris(inside: str | Path) -> bool:
    """Whether a name, or a path within a folder, is what file managers, Jupyter and archives leave beside the data."""
    return any(part.startswith(".") or part.lower() in DEBRIS for part in Path(inside).parts)


def class_folders(path: Path) -> list[str]:
    """The names of the folders of images in PATH/train, say; the place of a name in this list is its label."""
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not is_debris(entry.name))


def pictures(folder: Path) -> list[Path]:
    """The image files of a class, those in folders within it and in linked ones too, in an order of their names."""
    root, walked = os.path.realpath(folder), []
    seen = {root}
    for place, within, names in os.walk(folder, followlinks=True):
        walked.append((place, names))
        # A link that leads back up, or to a folder that was read, would be followed for ever.
        reached = {os.path.realpath(Path(place, name)): name for name in sorted(within, reverse=True)}
        within[:] = [name for to, name in reached.items() if to not in seen and not root.startswith(f"{to}/")]
        seen.update(reached)
    files = [Path(place, name) for place, names in sorted(walked) for name in sorted(names)]
    return [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and not is_debris(file.relative_to(folder))]


def shown_task(name: str) -> str:
    """A task's name without the place of its folder: `folder:images` for `folder:/some/where/images`."""
    if not name.startswith("folder:"):
        return name
    folder = Path(name.removeprefix("folder:")).resolve().name  # with its half, if it names one
    return f"folder:{os.fsencode(folder).decode(errors='backslashreplace')}"  # a name need not be UTF-8, a manifest is
