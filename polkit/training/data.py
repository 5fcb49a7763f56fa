"""Images as tensors, seeded augmentation, batch order, and the signature h() of a batch."""

import gzip
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polkit.training.task import HALVES, Task, class_folders, pictures, shown_task, split_folder, whole

# Mean and standard deviation of the pixels of each training set, in [0, 1], one per channel.
PIXEL_STATISTICS = {
    "digits": ((0.305,), (0.376,)),
    "fashion": ((0.286,), (0.353,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # of any other data

# What is drawn to augment n images: offsets of rows and of columns, int64 (2, n, 1); whether flipped, bool (n, 1).
Shifts = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Points:
    """Data points."""

    images: Tensor  # uint8 (n, channels, height, width); floats in [0, 1] while an attack optimises them
    labels: Tensor  # int64 (n,)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices) -> "Points":
        if not isinstance(indices, Tensor):
            indices = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        chosen = indices.to(self.labels.device)
        # Not images[chosen], which waits for a second thread even for one small batch.
        return Points(self.images.index_select(0, chosen), self.labels.index_select(0, chosen))

    def to(self, device: str | torch.device) -> "Points":
        return Points(*moved(device, self.images, self.labels))


def moved(device: str | torch.device, *parts: Tensor) -> tuple[Tensor, ...]:
    to_gpu = torch.device(device).type == "cuda"  # a copy to the CPU would be read before it has arrived
    if to_gpu and not parts[0].is_cuda:
        parts = [part.pin_memory() for part in parts]  # from pinned memory the copy runs while the CPU goes on
    return tuple(part.to(device, non_blocking=to_gpu) for part in parts)


def derive_seed(seed: int, *purpose) -> int:
    """A 63-bit seed for one purpose, so that no two random choices of a run share a stream."""
    text = "/".join(str(part) for part in (whole("a seed", seed), *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def polkit_home() -> Path:
    """Where proofs and calibrations are kept: $POLKIT_HOME, or `polkit` in the user's cache folder."""
    return _place(os.environ.get("POLKIT_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "polkit"))


def data_home() -> Path:
    """Where image files are looked for: $POLKIT_DATA, or `data` in `polkit_home`."""
    return _place(os.environ.get("POLKIT_DATA") or polkit_home() / "data")


def _place(given: str | Path) -> Path:
    """An absolute path; `~` is the user's home, which is asked for only then: a container may have none."""
    try:
        return Path(os.path.abspath(Path(given).expanduser()))  # without following links: a name stays as it was given
    except RuntimeError as error:
        raise FileNotFoundError(f"there is no home folder to find {given} in: set POLKIT_HOME to a folder") from error


def training_points(task: Task) -> Points:
    """The task's training set, or its half, cut to `train_size`. Raises FileNotFoundError if it is not at hand."""
    points = _load(task, train=True)
    if task.half:
        shuffled = np.random.default_rng(derive_seed(0, "halves", shown_task(task.data))).permutation(len(points))
        half = np.split(shuffled, [len(points) // 2])[HALVES.index(task.half)]
        points = points.take(np.sort(half))
    if len(points) < task.train_size:
        raise ValueError(f"task {task.name} asks for {task.train_size} training images, it has {len(points)}")
    if points.images.shape[1:] != task.image_shape or int(points.labels.max()) >= task.classes:
        raise ValueError(f"task {task.name} has {task.classes} classes of {task.image_shape}: its data are others")
    return Points(points.images[: task.train_size], points.labels[: task.train_size])


def test_points(task: Task) -> Points:
    """The task's test set, whole for either half."""
    return _load(task, train=False)


test_points.__test__ = False  # its name follows training_points; pytest must not collect it


def _load(task: Task, train: bool) -> Points:
    if task.data == "digits":
        return _digits().take(range(1408) if train else range(1408, 1797))
    if task.data == "fashion":
        return _fashion("train" if train else "t10k")
    if task.data == "cifar10":
        files = [f"data_batch_{number}.bin" for number in range(1, 6)] if train else ["test_batch.bin"]
        return _cifar(data_home() / "cifar-10-batches-bin", files, "cifar-10-binary.tar.gz", label_bytes=1)
    if task.data == "cifar100":
        file = "train.bin" if train else "test.bin"
        return _cifar(data_home() / "cifar-100-binary", [file], "cifar-100-binary.tar.gz", label_bytes=2)
    if task.data == "imagenet10":
        path = data_home() / "imagenet"
        numbered, wanted = path / "train", path / ("train" if train else "val")
        if missing := [folder for folder in (numbered, wanted) if not folder.is_dir()]:
            raise FileNotFoundError(
                f"ImageNet is not at {missing[0]}: put the ILSVRC 2012 images there, one folder per class, "
                "or set POLKIT_DATA to the folder that holds `imagenet`"
            )
        return _image_folder(wanted, task, class_folders(numbered)[:10])
    path = Path(task.data.removeprefix("folder:"))
    wanted, classes = split_folder(path, train), class_folders(split_folder(path, train=True))
    if unknown := sorted(set(class_folders(wanted)) - set(classes)):
        raise ValueError(f"{wanted} has a class {unknown[0]!r} that the training set does not have")
    return _image_folder(wanted, task, classes)


@lru_cache(maxsize=1)  # scikit-learn parses their text at every call
def _digits() -> Points:
    """All of them, in a random order that is always the same."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = np.rint(digits.images[order] * (255 / 16)).astype(np.uint8)  # the pixels are 0 to 16
    return Points(torch.from_numpy(images)[:, None], torch.from_numpy(digits.target[order].astype(np.int64)))


def _fashion(split: str) -> Points:
    """Fashion-MNIST: the whole of it where $POLKIT_DATA has it, or the first images, which a checkout brings along."""
    places = [data_home() / "fashion", Path(__file__).parents[2] / "data" / "fashion"]
    for place in places:
        if place.is_dir():
            files = [place / f"{split}-{name}-ubyte.gz" for name in ("images-idx3", "labels-idx1")]
            images, labels = (_idx(file, file.stat().st_mtime_ns) for file in files)
            if len(images) != len(labels):
                raise ValueError(f"{files[0]} has {len(images)} images, and {files[1].name} {len(labels)} labels")
            return Points(images[:, None], labels.long())
    raise FileNotFoundError(
        f"{places[0]} is missing: put the four files of https://github.com/zalandoresearch/fashion-mnist there, "
        "or set POLKIT_DATA to the folder that holds `fashion`"
    )


@lru_cache(maxsize=4)
def _idx(file: Path, changed: int) -> Tensor:
    """uint8, as MNIST is written: the number of axes in the fourth byte, then the length of each, then the values."""
    with _named(file, "an IDX file"):
        raw = np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8)
        start = 4 + 4 * int(raw[3])
        return torch.from_numpy(raw[start:].copy()).view(*raw[4:start].view(">i4").tolist())


def _cifar(path: Path, files: list[str], archive: str, label_bytes: int) -> Points:
    """Reads the binary version of CIFAR, which needs no pickle; the last label byte is the fine label."""
    if missing := [name for name in files if not (path / name).is_file()]:
        raise FileNotFoundError(
            f"{path / missing[0]} is missing: unpack https://www.cs.toronto.edu/~kriz/{archive} in {path.parent}, "
            "or set POLKIT_DATA to the folder that holds it"
        )
    record = label_bytes + 3 * 32 * 32
    raw = np.concatenate([np.fromfile(path / name, dtype=np.uint8) for name in files])
    if raw.size % record:
        raise ValueError(f"{path}: {raw.size} bytes are not a whole number of {record}-byte records")
    rows = raw.reshape(-1, record)
    images = np.ascontiguousarray(rows[:, label_bytes:]).reshape(-1, 3, 32, 32)
    return Points(torch.from_numpy(images), torch.from_numpy(rows[:, label_bytes - 1].astype(np.int64)))


def _image_folder(path: Path, task: Task, classes: list[str]) -> Points:
    found = [(file, label) for label, name in enumerate(classes) for file in pictures(path / name)]
    # Shuffled, since folders come class by class: a smaller `train_size` must not mean fewer classes.
    listed = [found[row] for row in np.random.default_rng(0).permutation(len(found))]
    images = torch.empty((len(listed), *task.image_shape), dtype=torch.uint8)
    for row, (file, _) in enumerate(listed):
        images[row] = _picture(file, task.image_shape[:0:-1])
    return Points(images, torch.tensor([label for _, label in listed], dtype=torch.int64))


def _picture(file: Path, size: tuple[int, int]) -> Tensor:
    """uint8 (3, height, width): an image file at this width and height, upright, black to white in 0 to 255."""
    from PIL import Image, ImageOps  # slow to import, and only image folders need it
    from torchvision.transforms.functional import pil_to_tensor

    with _named(file), Image.open(file) as opened:
        upright = ImageOps.exif_transpose(opened)
        # Pillow's own conversion cuts off what lies above 255. Its readers of PNG and PGM scale to 16 bits.
        if opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format in ("PNG", "PPM")):
            upright = Image.fromarray(np.rint(np.asarray(upright) / 257).astype(np.uint8))
        elif opened.mode in ("I", "F"):
            raise ValueError("its numbers do not say which of them is white: save it with 8 or 16 bits per channel")
        return pil_to_tensor(upright.convert("RGB").resize(size))


@contextmanager
def _named(file: Path, kind: str = "a picture") -> Iterator[None]:
    """Says in a sentence which file was being read; a damaged one makes decoders raise errors of any type."""
    try:
        yield
    except Exception as error:
        reason = str(error).partition("\n")[0].partition(" '")[0]  # what is quoted there is the file's name again
        raise ValueError(f"{file} cannot be read as {kind} ({reason})") from error


def epoch_batches(task: Task, seed: int, epoch: int) -> np.ndarray:
    """getBatches(D, S), Algorithm 1 line 4: int32 (S, B), a fresh shuffle, the last short batch left out."""
    order = np.random.default_rng(derive_seed(seed, "batches", epoch)).permutation(task.train_size)
    used = task.steps_per_epoch * task.batch_size
    return order[:used].reshape(task.steps_per_epoch, task.batch_size).astype(np.int32)


def batch_order(task: Task, seed: int, steps: int | None = None) -> np.ndarray:
    """𝕀: int32 (T, B), the batches of all epochs (Algorithm 1, lines 3-4), or of the first so many steps."""
    epochs = -(-(steps or task.steps) // task.steps_per_epoch)
    return np.concatenate([epoch_batches(task, seed, epoch) for epoch in range(epochs)])[:steps]


def augmentation_order(seed: int, steps: int) -> np.ndarray:
    """int64 (steps,): the seed of each step, from which that batch's shifts and flips are drawn."""
    return np.array([derive_seed(seed, "augmentation", step) for step in range(steps)], dtype=np.int64)


def signature(batch: Points) -> bytes:
    """h(), Algorithm 1 line 9: SHA-256 over every byte of the pixels, then of the labels (32 bytes)."""
    digest = hashlib.sha256(batch.images.cpu().contiguous().numpy())
    digest.update(batch.labels.cpu().contiguous().numpy().astype("<i8", copy=False))
    return digest.digest()


def points_facts(task: Task, points: Points) -> dict[str, str]:
    """What tells these points from others of the same name, for the cache; nobody has other digits of scikit-learn."""
    return {} if task.data == "digits" else {"points": signature(points).hex()}


def signatures_of(points: Points, batches: np.ndarray) -> np.ndarray:
    """ℍ: uint8 (T, 32), the signature of each batch (Algorithm 1, line 9)."""
    return np.stack([np.frombuffer(signature(points.take(batch)), np.uint8) for batch in batches])


def normalise(task: Task, images: Tensor) -> Tensor:
    """Images in [0, 1] to zero mean and unit variance per channel, by the data set's own statistics."""
    mean, deviation = _pixel_statistics(task.data, images.dtype, images.device)
    return (images - mean) / deviation


@lru_cache(maxsize=16)  # made at every step, they would make a GPU wait for the CPU
def _pixel_statistics(data: str, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    mean, deviation = PIXEL_STATISTICS.get(data, IMAGENET_STATISTICS)
    return tuple(torch.tensor(each, dtype=dtype, device=device).view(1, -1, 1, 1) for each in (mean, deviation))


def draw_shifts(task: Task, count: int, seed: int) -> Shifts:
    """Drawn on the CPU, so that every device gets the same ones."""
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.randint(0, 2 * task.shift + 1, (2, count, 1), generator=generator)
    return offsets, torch.rand((count, 1), generator=generator) < 0.5


def augment(task: Task, images: Tensor, seed: int) -> Tensor:
    """Images (n, channels, height, width), each shifted by up to `task.shift` pixels over black and perhaps flipped."""
    return shifted(task, images, moved(images.device, *draw_shifts(task, len(images), seed)))


def shifted(task: Task, images: Tensor, shifts: Shifts) -> Tensor:
    """`augment` with what was drawn, on the device of the images."""
    (count, _, height, width), (offsets, flipped) = images.shape, shifts
    rows = offsets[0] + torch.arange(height, device=offsets.device)
    columns = torch.arange(width, device=offsets.device).expand(count, width)
    if task.flip:
        columns = torch.where(flipped, columns.flip(1), columns)
    columns = offsets[1] + columns
    padded = torch.nn.functional.pad(images, [task.shift] * 4)
    flat = (rows[:, :, None] * padded.shape[3] + columns[:, None, :]).view(count, 1, -1)
    return padded.flatten(2).gather(2, flat.expand(-1, images.shape[1], -1)).view_as(images)
