import gzip
import hashlib
import io
import itertools
import os
import struct
import time
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import polkit as pk
from polkit.training import augment
from polkit.training.data import data_home, derive_seed, epoch_batches, normalise, polkit_home, signatures_of
from tests.benchmarks.loops import random_points as noise
from tests.pictures import litter


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
    points = random_points(128, (3, 32, 32))
    start = time.process_time()  # of this process: others may have the cores
    for _ in range(390):
        pk.signature(points)
    assert time.process_time() - start < 1


def test_fashion_comes_with_a_checkout(monkeypatch, tmp_path):
    monkeypatch.setenv("POLKIT_DATA", str(tmp_path))
    task = pk.task("fashion")
    points, tests = pk.training_points(task), pk.test_points(task)
    assert (len(points), len(tests)) == (task.train_size, 2000) == (6400, 2000)
    assert points.images.shape[1:] == task.image_shape
    assert points.labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]  # as the whole set begins
    shown = normalise(task, points.images / 255)
    assert abs(shown.mean()) < 0.02
    assert abs(shown.std() - 1) < 0.02


def test_the_whole_of_fashion_mnist_is_taken_where_it_is_at_hand(monkeypatch, tmp_path):
    images, labels = np.arange(70 * 784).astype(np.uint8), (np.arange(70) % 10).astype(np.uint8)
    (tmp_path / "fashion").mkdir()
    for name, axes, values in (("images-idx3", (70, 28, 28), images), ("labels-idx1", (70,), labels)):
        content = bytes([0, 0, 8, len(axes)]) + np.array(axes, ">i4").tobytes() + values.tobytes()
        (tmp_path / "fashion" / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(content))
    monkeypatch.setenv("POLKIT_DATA", str(tmp_path))
    points = pk.training_points(pk.task("fashion", train_size=64))
    assert torch.equal(points.images.flatten(), torch.from_numpy(images[: 64 * 784]))
    assert points.labels.tolist() == [number % 10 for number in range(64)]
    with pytest.raises(ValueError, match="asks for 6400 training images, it has 70"):
        pk.training_points(pk.task("fashion"))
    labels = tmp_path / "fashion" / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(bytes([0, 0, 8, 1]) + np.array([69], ">i4").tobytes() + bytes(69)))
    with pytest.raises(ValueError, match="has 70 images, and train-labels-idx1-ubyte.gz 69 labels"):
        pk.training_points(pk.task("fashion", train_size=64))
    labels.write_bytes(b"cut off")
    with pytest.raises(ValueError, match="train-labels-idx1-ubyte.gz cannot be read as an IDX file"):
        pk.training_points(pk.task("fashion", train_size=64))


def test_without_fashion_it_is_said_where_it_is_to_be_had(monkeypatch, tmp_path):
    monkeypatch.setenv("POLKIT_DATA", str(tmp_path))
    monkeypatch.setattr("polkit.training.data.__file__", str(tmp_path / "site-packages" / "polkit" / "x" / "data.py"))
    with pytest.raises(
        FileNotFoundError, match=r"fashion is missing: put the four files of https://github.com/zalando"
    ):
        pk.training_points(pk.task("fashion"))


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_augmentation_is_a_shift_over_black_and_perhaps_a_flip(name):
    task = pk.task(name)
    images = torch.rand(12, *task.image_shape)
    shown = augment(task, images, seed=5)
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
    assert torch.equal(shown, augment(task, images, seed=5))
    assert not torch.equal(shown, augment(task, images, seed=6))


def test_augmentation_passes_each_gradient_to_the_pixel_it_shows():
    task = pk.task("cifar10")
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    (augment(task, images, seed=1) * weights).sum().backward()
    # A linear map: its transpose gives the same inner product.
    direction = torch.rand_like(images)
    along = (augment(task, direction, seed=1) * weights).sum()
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
    [
        ("cifar10", "cifar-10-batches-bin", [f"data_batch_{n}.bin" for n in range(1, 6)], 1),
        ("cifar100", "cifar-100-binary", ["train.bin"], 2),
    ],
)
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
    assert pk.task(f"folder:{tmp_path}").batch_size == 9
    write_images(tmp_path / "large", "train", ["ant", "bee"], 70, (32, 32))
    write_images(tmp_path / "large", "test", ["ant", "bee"], 1, (32, 32))
    task = pk.task(f"folder:{tmp_path / 'large'}")
    assert (task.classes, task.train_size, task.model) == (2, 140, "resnet20")
    points, tests = pk.training_points(task), pk.test_points(task)
    shown = sorted(
        (label, *image[:, 5, 5].tolist()) for label, image in zip(points.labels.tolist(), points.images, strict=True)
    )
    assert shown == [(label, 10 * label, number, 200) for label in (0, 1) for number in range(70)]
    assert len(tests) == 2
    small = task.replace(train_size=9, batch_size=3, checkpoint_interval=1, data=f"folder:{tmp_path}", classes=3)
    assert pk.training_points(small).images.shape == (9, 3, 32, 32)  # 40 x 32 was resized
    few = pk.training_points(task.replace(train_size=20, batch_size=4, checkpoint_interval=1)).labels
    assert 4 <= int(few.sum()) <= 16  # a part of the images is a part of every class
    with pytest.raises(FileNotFoundError, match="has no folder train"):
        pk.task(f"folder:{tmp_path / 'nowhere'}")


def test_imagenet10_takes_the_first_ten_classes_at_128_pixels(tmp_path, monkeypatch):
    monkeypatch.setenv("POLKIT_DATA", str(tmp_path))
    write_images(tmp_path / "imagenet", "train", [f"n{number:02d}" for number in range(12)], 2, (64, 90))
    task = pk.task("imagenet10").replace(train_size=20, batch_size=4, checkpoint_interval=1)
    points = pk.training_points(task)
    assert points.images.shape == (20, 3, 128, 128)
    assert sorted(points.labels.tolist()) == [label for label in range(10) for _ in range(2)]


def test_digits_are_scikit_learns(small_task):
    from sklearn.datasets import load_digits

    train, test = pk.training_points(pk.task("digits")), pk.test_points(pk.task("digits"))
    assert (len(train), len(test)) == (1408, 389)
    both = np.concatenate([train.images.numpy(), test.images.numpy()]).reshape(1797, 64)
    original = np.rint(load_digits().data * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, both)) == sorted(map(bytes, original))


def test_a_label_byte_counts_as_much_as_a_pixel():
    batch = random_points(5)
    swapped = pk.Points(batch.images, batch.labels.flip(0))
    assert batch.labels.tolist() != swapped.labels.tolist()
    assert pk.signature(swapped) != pk.signature(batch)
    reordered = batch.take([1, 0, 2, 3, 4])
    assert pk.signature(reordered) != pk.signature(batch)


def test_a_signature_does_not_depend_on_how_the_tensor_lies_in_memory():
    batch = random_points(5)
    strided = batch.images.contiguous(memory_format=torch.channels_last)
    assert strided.stride() != batch.images.stride()
    assert pk.signature(pk.Points(strided, batch.labels)) == pk.signature(batch)


def test_the_gradient_of_a_pixel_counts_the_images_that_show_it():
    task = pk.task("digits")
    images = torch.ones(64, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    shown = augment(task, images, seed=2)
    shown.sum().backward()
    # All pixels are 1, so that each image's sum is the number of its pixels that stay visible.
    assert torch.equal(images.grad.sum((1, 2, 3)), shown.detach().sum((1, 2, 3)))
    assert set(images.grad.unique().tolist()) == {0.0, 1.0}
    assert images.grad[:, :, 1:-1, 1:-1].eq(1).all()  # a shift by one pixel hides the border only


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_normalised_images_are_what_the_statistics_say(name):
    task = pk.task(name)
    statistics = {"digits": ([0.305], [0.376]), "cifar10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616])}[name]
    images = torch.rand(3, *task.image_shape, dtype=torch.float64)
    shown = normalise(task, images).numpy()
    for channel, (mean, deviation) in enumerate(zip(*statistics, strict=True)):
        expected = (images[:, channel].numpy() - mean) / deviation
        np.testing.assert_allclose(shown[:, channel], expected, rtol=1e-12, atol=1e-15)


def test_the_statistics_of_the_digits_are_measured_ones():
    task = pk.task("digits")
    shown = normalise(task, pk.training_points(task).images.double() / 255)
    assert abs(float(shown.mean())) < 0.005
    assert abs(float(shown.std()) - 1) < 0.005


def test_halves_of_a_folder_are_disjoint_however_its_place_is_spelled(tmp_path, monkeypatch):
    for part, name in itertools.product(("train", "test"), "ab"):
        (tmp_path / "images" / part / name).mkdir(parents=True)
        for number in range(20):
            picture = Image.new("L", (8, 8), number + 100 * (name == "b"))
            picture.save(tmp_path / "images" / part / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    seen = []
    for place, half in (("images", "first-half"), (tmp_path / "images", "second-half")):
        points = pk.training_points(pk.task(f"folder:{place}:{half}"))
        seen.append({int(image.max()) for image in points.images})
    assert seen[0]
    assert not seen[0] & seen[1]


def test_halves_keep_each_label_with_its_image_and_are_always_the_same():
    whole = pk.training_points(pk.task("digits"))
    label_of = {image.numpy().tobytes(): int(label) for image, label in zip(whole.images, whole.labels, strict=True)}
    assert len(label_of) == len(whole) == 1408  # no two digits are alike, so that an image is its own name
    halves = [pk.training_points(pk.task(f"digits:{half}")) for half in ("first-half", "second-half")]
    names = [[image.numpy().tobytes() for image in half.images] for half in halves]
    assert [len(half) for half in names] == [704, 704]
    assert set(names[0]) | set(names[1]) == set(label_of)
    assert set(names[0]) & set(names[1]) == set()
    for half, known in zip(halves, names, strict=True):
        assert half.labels.tolist() == [label_of[name] for name in known]
    again = pk.training_points(pk.task("digits:first-half"))
    assert torch.equal(again.images, halves[0].images)
    assert len(pk.test_points(pk.task("digits:first-half"))) == 389


def test_the_cifar_test_sets_have_their_own_files(tmp_path, monkeypatch):
    monkeypatch.setenv("POLKIT_DATA", str(tmp_path))
    write_cifar(tmp_path / "cifar-10-batches-bin", {"test_batch.bin": 3}, 1)
    write_cifar(tmp_path / "cifar-100-binary", {"test.bin": 5}, 2)
    assert [len(pk.test_points(pk.task(name))) for name in ("cifar10", "cifar100")] == [3, 5]
    assert pk.test_points(pk.task("cifar100")).labels.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(FileNotFoundError, match=r"data_batch_1\.bin is missing"):
        pk.training_points(pk.task("cifar10"))


def test_a_cut_cifar_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("POLKIT_DATA", str(tmp_path))
    write_cifar(tmp_path / "cifar-10-batches-bin", {"test_batch.bin": 3}, 1)
    file = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="9218 bytes are not a whole number of 3073-byte records"):
        pk.test_points(pk.task("cifar10"))


def test_a_task_larger_than_its_data_set_is_refused():
    with pytest.raises(ValueError, match="asks for 1409 training images, it has 1408"):
        pk.training_points(pk.task("digits").replace(train_size=1409))


def test_half_of_one_picture_is_too_few(tmp_path):
    write_images(tmp_path, "train", ["ant"], 1, (8, 8))
    task = pk.task(f"folder:{tmp_path}", checkpoint_interval=1).replace(half="first-half")
    with pytest.raises(ValueError, match="asks for 1 training images, it has 0"):
        pk.training_points(task)


def test_a_label_beyond_the_tasks_classes_is_refused():
    with pytest.raises(ValueError, match="task digits has 9 classes of .1, 8, 8.: its data are others"):
        pk.training_points(pk.task("digits").replace(classes=9))


def test_a_class_that_was_never_trained_on_is_refused(tmp_path):
    write_images(tmp_path, "train", ["ant", "bee"], 70, (32, 32))
    write_images(tmp_path, "test", ["ant", "wasp"], 1, (32, 32))
    with pytest.raises(ValueError, match="has a class 'wasp' that the training set does not have"):
        pk.test_points(pk.task(f"folder:{tmp_path}"))


def test_a_class_has_one_number_in_training_and_test_set(tmp_path):
    write_images(tmp_path, "train", ["ant", "bee", "cat"], 50, (32, 32))
    write_images(tmp_path, "test", ["ant", "cat"], 1, (32, 32))  # no bee to test on
    task = pk.task(f"folder:{tmp_path}")
    assert sorted(set(pk.training_points(task).labels.tolist())) == [0, 1, 2]
    assert sorted(pk.test_points(task).labels.tolist()) == [0, 2]


def test_a_stray_file_is_no_class_of_imagenet(tmp_path, monkeypatch):
    monkeypatch.setenv("POLKIT_DATA", str(tmp_path))
    write_images(tmp_path / "imagenet", "train", [f"n{number:02d}" for number in range(10)], 1, (32, 32))
    (tmp_path / "imagenet" / "train" / ".DS_Store").write_bytes(b"")
    task = pk.task("imagenet10").replace(train_size=10, batch_size=2, checkpoint_interval=1)
    assert sorted(pk.training_points(task).labels.tolist()) == list(range(10))


def test_where_files_are_kept_is_the_users_to_say(tmp_path, monkeypatch):
    monkeypatch.setenv("POLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("POLKIT_DATA", raising=False)
    assert (polkit_home(), data_home()) == (tmp_path / "home", tmp_path / "home" / "data")
    monkeypatch.delenv("POLKIT_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert polkit_home() == tmp_path / "cache" / "polkit"


def nobody():
    raise RuntimeError("Could not determine home directory.")


def test_no_home_is_asked_for_where_a_place_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.home", nobody)
    monkeypatch.setattr("pathlib.Path.expanduser", lambda path: nobody() if path.parts[:1] == ("~",) else path)
    monkeypatch.setenv("POLKIT_HOME", str(tmp_path))
    assert polkit_home() == tmp_path
    monkeypatch.delenv("POLKIT_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert polkit_home() == tmp_path / "polkit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    with pytest.raises(FileNotFoundError, match="home folder .* POLKIT_HOME") as said:
        polkit_home()
    assert "\n" not in str(said.value)


def test_a_place_may_be_relative_and_begin_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.chdir(tmp_path)
    for said, meant in {"~/kept": "me/kept", "kept": "kept", "../kept": "../kept"}.items():
        monkeypatch.setenv("POLKIT_HOME", said)
        monkeypatch.setenv("POLKIT_DATA", said)
        assert polkit_home() == data_home() == (tmp_path / meant).resolve()


def test_two_purposes_never_share_a_seed():
    seeds = {derive_seed(seed, name, step) for seed in range(10) for name in ("batches", "x") for step in range(100)}
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, "x", 2) == derive_seed(1, "x", 2)


def test_signatures_are_those_of_a_plain_loop(small_task):
    points = noise(small_task.replace(image_shape=(3, 32, 32)), 64)
    batches = np.random.default_rng(0).integers(0, 64, (5, 16), dtype=np.int32)
    for found, batch in zip(signatures_of(points, batches), batches, strict=True):
        plain = b"".join(points.images[i].numpy().tobytes() for i in batch)
        plain += b"".join(int(points.labels[i]).to_bytes(8, "little", signed=True) for i in batch)
        assert found.tobytes() == hashlib.sha256(plain).digest()


def test_points_on_the_way_to_a_gpu_are_those_of_numpy(small_task):
    points, rows = pk.training_points(small_task), np.array([3, 1, 200], dtype=np.int32)
    by_tensor, by_array = points.take(torch.from_numpy(rows)), points.take(rows)
    assert torch.equal(by_tensor.images, by_array.images)
    assert torch.equal(by_tensor.labels, points.labels[[3, 1, 200]])


def test_a_file_of_fashion_that_is_replaced_is_read_again(tmp_path, monkeypatch):
    (tmp_path / "fashion").mkdir()
    monkeypatch.setenv("POLKIT_DATA", str(tmp_path))
    for value in (1, 2):
        for name, axes in (("images-idx3", (64, 28, 28)), ("labels-idx1", (64,))):
            content = bytes([0, 0, 8, len(axes)]) + np.array(axes, ">i4").tobytes() + bytes([value]) * np.prod(axes)
            (tmp_path / "fashion" / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(content))
        assert set(pk.training_points(pk.task("fashion", train_size=64)).labels.tolist()) == {value}


def test_debris_is_no_class_and_no_picture(tmp_path):
    for split in ("train", "test"):
        write_images(tmp_path, split, ["ant", "bee"], 70, (32, 32))
    name = f"folder:{tmp_path}"
    task, before = pk.task(name), pk.training_points(pk.task(name))
    litter(tmp_path)
    (tmp_path / "test" / ".ipynb_checkpoints" / "ant").mkdir()
    assert pk.task(name) == task
    after = pk.training_points(task)
    assert torch.equal(after.images, before.images)
    assert torch.equal(after.labels, before.labels)
    assert len(pk.test_points(task)) == 140


def test_linked_folders_are_counted_as_they_are_read(tmp_path):
    write_images(tmp_path, "elsewhere", ["ant", "bee", "more"], 70, (32, 32))
    (tmp_path / "train").mkdir()
    for name in ("ant", "bee"):
        (tmp_path / "train" / name).symlink_to(tmp_path / "elsewhere" / name)
    (tmp_path / "elsewhere" / "bee" / "more").symlink_to(tmp_path / "elsewhere" / "more")
    (tmp_path / "elsewhere" / "ant" / "folder.png").mkdir()
    task = pk.task(f"folder:{tmp_path}")
    assert (task.classes, task.train_size) == (2, 210)
    assert pk.training_points(task).labels.bincount().tolist() == [70, 140]


def test_a_link_that_leads_back_is_not_followed_round_and_round(tmp_path):
    write_images(tmp_path, "train", ["ant", "bee"], 3, (8, 8))
    (tmp_path / "train" / "ant" / "again").symlink_to(tmp_path / "train" / "ant")
    (tmp_path / "train" / "bee" / "up").symlink_to(tmp_path / "train")
    assert pk.task(f"folder:{tmp_path}", checkpoint_interval=1).train_size == 6


def test_classes_that_link_to_each_other_are_read_once_for_each(tmp_path):
    write_images(tmp_path, "train", "abc", 2, (8, 8))
    for name, other in itertools.permutations("abc", 2):
        (tmp_path / "train" / name / f"to-{other}").symlink_to(tmp_path / "train" / other)
    assert pk.task(f"folder:{tmp_path}", checkpoint_interval=1).train_size == 3 * 6


def test_a_folder_may_be_named_with_a_tilde_and_need_not_be_utf8(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    name = os.fsdecode(b"caf\xe9")
    write_images(tmp_path / name, "train", ["ant", "bee"], 3, (8, 8))
    task = pk.task(f"folder:~/{name}", epochs=1, checkpoint_interval=1).replace(image_shape=(3, 8, 8), model="resnet8")
    proof = pk.prove(task, out=tmp_path / "proof", progress=False)
    assert pk.open_proof(proof.folder).task.data == "folder:caf\\xe9"
    for _ in range(2):  # the second time it is read
        known = pk.calibrate(proof, replays=2, workers=1, progress=False)
        assert known.task == task


def only_picture(folder, name, save, size=(4, 4)):
    """What a task whose pictures are all this one sees of it."""
    for split in ("train", "test"):
        (folder / split / "ant").mkdir(parents=True)
    save(folder / "train" / "ant" / name)
    task = pk.task("cifar10").replace(data=f"folder:{folder}", classes=1, image_shape=(3, *size))
    return pk.training_points(task.replace(train_size=1, batch_size=1, checkpoint_interval=1)).images[0]


GREY = np.linspace(0, 65535, 16).reshape(4, 4)
SIXTEEN_BIT = {
    "grey.png": lambda file: Image.fromarray(GREY.astype(np.uint16)).save(file),
    "grey.tif": lambda file: Image.fromarray(GREY.astype(np.uint16)).save(file),
    "grey.pgm": lambda file: file.write_bytes(b"P5 4 4 65535 " + GREY.astype(">u2").tobytes()),
}


@pytest.mark.parametrize("name", SIXTEEN_BIT)
def test_16_bits_are_scaled_to_8(tmp_path, name):
    seen = only_picture(tmp_path, name, SIXTEEN_BIT[name])
    assert seen.tolist() == [np.rint(GREY / 257).astype(int).tolist()] * 3


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_a_picture_that_does_not_say_what_is_white_is_refused(tmp_path, kind):
    with pytest.raises(ValueError, match=r"ant/x.tif cannot be read as a picture .*8 or 16 bits") as said:
        only_picture(tmp_path, "x.tif", Image.fromarray(GREY.astype(kind)).save)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.tif"])
def test_a_picture_is_turned_as_its_camera_was(tmp_path, name):
    pixels = np.zeros((16, 8, 3), dtype=np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees: what is the top comes to the right
    seen = only_picture(tmp_path, name, lambda file: Image.fromarray(pixels).save(file, exif=exif), size=(8, 16))
    assert (seen[:, :, 10:].min() > 200, seen[:, :, :6].max() < 50) == (True, True)


def test_8_bit_pictures_are_read_as_ever(tmp_path):
    from torchvision.datasets.folder import default_loader
    from torchvision.transforms.functional import pil_to_tensor

    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    for mode, name in (("RGB", "x.jpg"), ("RGBA", "x.png"), ("P", "x.bmp"), ("1", "x.tif"), ("LA", "y.png")):
        folder = tmp_path / mode
        seen = only_picture(folder, name, lambda file, mode=mode: Image.fromarray(pixels).convert(mode).save(file))
        assert torch.equal(seen, pil_to_tensor(default_loader(folder / "train" / "ant" / name).resize((4, 4))))


def png(width, height):
    """A picture that declares this size and holds a row."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(9)))]
    parts = [
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in (*chunks, (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def saved(format):
    stored = io.BytesIO()
    Image.fromarray(np.arange(3072, dtype=np.uint8).reshape(32, 32, 3)).save(stored, format)
    return stored.getvalue()


UNREADABLE = {
    "empty.png": lambda file: file.touch(),
    "text.png": lambda file: file.write_text("no picture"),
    "cut.png": lambda file: file.write_bytes(saved("PNG")[:-60]),
    "cut.jpg": lambda file: file.write_bytes(saved("JPEG")[:-60]),
    "cut.tif": lambda file: file.write_bytes(saved("TIFF")[:-600]),
    "changed.png": lambda file: file.write_bytes(saved("PNG").replace(b"IDAT", b"IDAX")),
    "huge.png": lambda file: file.write_bytes(png(20_000, 20_000)),
    "link.png": lambda file: file.symlink_to("nowhere.png"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_damaged_or_huge_picture_is_named(tmp_path, name):
    with pytest.raises(ValueError, match=rf"ant/{name} cannot be read as a picture \(") as said:
        only_picture(tmp_path, name, UNREADABLE[name])
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    "damage", [lambda raw: b"x" + raw[1:], lambda raw: raw[:-9], lambda raw: gzip.compress(b"\0\0\x08\x01")]
)
def test_a_damaged_file_of_fashion_is_named(tmp_path, monkeypatch, damage):
    (tmp_path / "fashion").mkdir()
    monkeypatch.setenv("POLKIT_DATA", str(tmp_path))
    for name in ("images-idx3", "labels-idx1"):
        raw = gzip.compress(b"\0\0\x08\x01" + (6400).to_bytes(4, "big") + bytes(6400))
        (tmp_path / "fashion" / f"train-{name}-ubyte.gz").write_bytes(damage(raw))
    with pytest.raises(ValueError, match="images-idx3-ubyte.gz cannot be read as an IDX file") as said:
        pk.training_points(pk.task("fashion"))
    assert "\n" not in str(said.value)
