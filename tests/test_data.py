import hashlib
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import polkit as pk
from polkit.data import epoch_batches


def random_points(count, shape=(3, 8, 8), seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)
    return pk.Points(images, torch.randint(0, 10, (count,), generator=generator))


def test_the_signature_is_sha256_over_all_bytes():
    batch = random_points(5)
    pixels = batch.images.numpy().tobytes()
    labels = b"".join(int(label).to_bytes(8, "little") for label in batch.labels)
    assert pk.signature(batch) == hashlib.sha256(pixels + labels).digest()


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 5 * 3 * 8 * 8 + 5 * 8 - 1), flip=st.integers(1, 255))
def test_any_changed_byte_changes_the_signature(place, flip):
    batch = random_points(5)
    before = pk.signature(batch)
    raw = (batch.images if place < batch.images.numel() else batch.labels).numpy().reshape(-1).view(np.uint8)
    raw[place % raw.size if place < batch.images.numel() else place - batch.images.numel()] ^= flip
    assert pk.signature(batch) != before


def test_signing_50000_colour_images_takes_less_than_a_second():
    points = random_points(50_000, (3, 32, 32))
    start = time.perf_counter()
    for batch in range(390):
        pk.signature(pk.Points(points.images[batch * 128 :][:128], points.labels[batch * 128 :][:128]))
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_augmentation_is_a_shift_over_black_and_perhaps_a_flip(name):
    task = pk.task(name)
    images = torch.rand(40, *task.image_shape)
    shown = pk.augment(task, images, seed=5)
    flips = (False, True) if task.flip else (False,)
    _, height, width = task.image_shape
    used = set()
    for original, result in zip(images, shown, strict=True):
        found = []
        for flipped in flips:
            source = original.flip(2) if flipped else original
            for down in range(-task.shift, task.shift + 1):
                for right in range(-task.shift, task.shift + 1):
                    moved = torch.zeros_like(source)
                    for y in range(max(0, -down), min(height, height - down)):
                        left, end = max(0, -right), min(width, width - right)
                        moved[:, y, left:end] = source[:, y + down, left + right : end + right]
                    if torch.equal(moved, result):
                        found.append((down, right, flipped))
        assert len(found) == 1
        used.update(found)
    assert len(used) > 5
    assert {flipped for _, _, flipped in used} == set(flips)
    assert torch.equal(shown, pk.augment(task, images, seed=5))
    assert not torch.equal(shown, pk.augment(task, images, seed=6))


def test_augmentation_passes_each_gradient_to_the_pixel_it_shows():
    task = pk.task("cifar10")
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    (pk.augment(task, images, seed=1) * weights).sum().backward()
    # A linear map: its transpose gives the same inner product.
    direction = torch.rand_like(images)
    along = (pk.augment(task, direction, seed=1) * weights).sum()
    torch.testing.assert_close((images.grad * direction).sum(), along.detach())


def test_an_epoch_shows_each_point_at_most_once():
    task = pk.task("digits").replace(train_size=150)
    first, again, other = (epoch_batches(task, seed, 3) for seed in (0, 0, 1))
    assert first.shape == (2, 64)
    assert first.dtype == np.int32
    assert len(np.unique(first)) == 128
    assert first.max() < 150
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, epoch_batches(task, 0, 4))


def write_cifar(path, counts, label_bytes):
    path.mkdir(parents=True)
    number = 0
    for name, count in counts.items():
        rows = []
        for _ in range(count):
            image = np.full(3072, number % 256, dtype=np.uint8)
            image[0], image[1] = number // 256, 7
            rows.append(np.concatenate([np.full(label_bytes - 1, 99, np.uint8), [number % 10], image]))
            number += 1
        np.concatenate(rows).astype(np.uint8).tofile(path / name)


def test_halves_are_disjoint_and_together_the_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("POLKIT_DATA", str(tmp_path))
    counts = {f"data_batch_{number}.bin": 60 for number in range(1, 6)}
    write_cifar(tmp_path / "cifar-10-batches-bin", counts, label_bytes=1)
    halves = []
    for half in ("first-half", "second-half"):
        task = pk.task(f"cifar10:{half}").replace(train_size=150, batch_size=32, checkpoint_interval=1)
        images = pk.training_points(task).images[:, 0, 0, :3].numpy()  # (number // 256, 7, number % 256)
        halves.append({int(first) * 256 + int(third) for first, _, third in images})
    assert [len(half) for half in halves] == [150, 150]
    assert halves[0] | halves[1] == set(range(300))


@pytest.mark.parametrize(
    ("name", "folder", "files", "label_bytes"),
    [("cifar10", "cifar-10-batches-bin", [f"data_batch_{n}.bin" for n in range(1, 6)], 1),
     ("cifar100", "cifar-100-binary", ["train.bin"], 2)],
)  # fmt: skip
def test_cifar_is_read_from_its_binary_files(tmp_path, monkeypatch, name, folder, files, label_bytes):
    monkeypatch.setenv("POLKIT_DATA", str(tmp_path))
    write_cifar(tmp_path / folder, dict.fromkeys(files, 4), label_bytes)
    count = 4 * len(files)
    points = pk.training_points(pk.task(name).replace(train_size=count, batch_size=2, checkpoint_interval=1))
    assert points.images.shape == (count, 3, 32, 32)
    assert points.images.dtype == torch.uint8
    assert points.labels.tolist() == [number % 10 for number in range(count)]
    assert points.images[3, 0, 0, :3].tolist() == [0, 7, 3]
    assert points.images[3, 2, 31, 31] == 3


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagenet10"])
def test_a_missing_data_set_says_in_one_sentence_how_to_get_it(tmp_path, monkeypatch, name):
    monkeypatch.setenv("POLKIT_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="POLKIT_DATA") as caught:
        pk.training_points(pk.task(name))
    assert "\n" not in str(caught.value)


def write_images(root, split, classes, per_class, size):
    for label, name in enumerate(classes):
        (root / split / name).mkdir(parents=True)
        for number in range(per_class):
            colour = (10 * label, number, 200)
            Image.new("RGB", size, colour).save(root / split / name / f"{number}.png")


def test_any_image_folder_is_a_task(tmp_path):
    write_images(tmp_path, "train", ["ant", "bee", "cat"], 3, (40, 32))
    write_images(tmp_path, "val", ["ant", "bee", "cat"], 1, (32, 32))
    with pytest.raises(ValueError, match="do not fill one batch of 128"):
        pk.task(f"folder:{tmp_path}")
    write_images(tmp_path / "large", "train", ["ant", "bee"], 70, (32, 32))
    write_images(tmp_path / "large", "test", ["ant", "bee"], 1, (32, 32))
    task = pk.task(f"folder:{tmp_path / 'large'}")
    assert (task.classes, task.train_size, task.model) == (2, 140, "resnet20")
    points, tests = pk.training_points(task), pk.test_points(task)
    assert points.labels.tolist() == [0] * 70 + [1] * 70
    assert points.images[70, :, 5, 5].tolist() == [10, 0, 200]
    assert len(tests) == 2
    small = task.replace(train_size=9, batch_size=3, checkpoint_interval=1, data=f"folder:{tmp_path}", classes=3)
    assert pk.training_points(small).images.shape == (9, 3, 32, 32)  # 40 x 32 was resized
    with pytest.raises(FileNotFoundError, match="has no folder train"):
        pk.task(f"folder:{tmp_path / 'nowhere'}")


def test_imagenet10_takes_the_first_ten_classes_at_128_pixels(tmp_path, monkeypatch):
    monkeypatch.setenv("POLKIT_DATA", str(tmp_path))
    write_images(tmp_path / "imagenet", "train", [f"n{number:02d}" for number in range(12)], 2, (64, 90))
    task = pk.task("imagenet10").replace(train_size=20, batch_size=4, checkpoint_interval=1)
    points = pk.training_points(task)
    assert points.images.shape == (20, 3, 128, 128)
    assert points.labels.tolist() == [label for label in range(10) for _ in range(2)]


def test_digits_are_scikit_learns(small_task):
    from sklearn.datasets import load_digits

    train, test = pk.training_points(pk.task("digits")), pk.test_points(pk.task("digits"))
    assert (len(train), len(test)) == (1408, 389)
    both = np.concatenate([train.images.numpy(), test.images.numpy()]).reshape(1797, 64)
    original = np.rint(load_digits().data * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, both)) == sorted(map(bytes, original))
