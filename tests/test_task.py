import json

import numpy as np
import pytest

import polkit as pk
from polkit.training import Task


def test_the_papers_settings():
    settings = {
        name: (task.model, task.epochs, task.steps_per_epoch, task.steps, task.batch_size, task.checkpoint_interval)
        for name in ("digits", "cifar10", "cifar100", "imagenet10")
        for task in [pk.task(name)]
    }
    assert settings == {
        "digits": ("resnet8", 200, 22, 4400, 64, 10),
        "cifar10": ("resnet20", 200, 390, 78_000, 128, 100),
        "cifar100": ("resnet50", 200, 390, 78_000, 128, 100),
        "imagenet10": ("resnet18", 200, 101, 20_200, 128, 100),
    }


def test_a_task_survives_json():
    task = pk.task("cifar100:second-half").replace(epochs=20)
    assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task
    assert (task.train_size, task.milestones) == (25_000, (6, 12, 16))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": "4"}, "epochs must be of type int"),
        ({"epochs": True}, "epochs must be of type int"),
        ({"image_shape": [1, 8]}, "channels, height, width"),
        ({"milestones": 1}, "milestones must be of type list, not 1"),
        ({"milestones": [1.5]}, "milestones must be a whole number, not 1.5"),
        ({"spare": 1}, "an object with the fields"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1 up, not 0"),
        ({"half": "third"}, "one of first-half, second-half"),
        ({"checkpoint_interval": 5000}, "must not exceed"),
    ],
)
def test_a_task_from_outside_is_checked(change, message):
    with pytest.raises(ValueError, match=message):
        Task.from_json(pk.task("digits").to_json() | change)


def test_unknown_tasks_and_fields_are_named_with_the_right_ones():
    with pytest.raises(
        ValueError, match="the tasks are digits, fashion, cifar10, cifar100, imagenet10 and folder:PATH"
    ):
        pk.task("mnist")
    with pytest.raises(ValueError, match="a task has no epoch; it has data"):
        pk.task("digits").replace(epoch=3)


def test_steps_count_whole_batches_only(small_task):
    assert (small_task.steps_per_epoch, small_task.steps, small_task.checkpoint_interval) == (4, 16, 4)
    assert small_task.replace(train_size=319).steps == 16
    assert small_task.replace(train_size=320).steps == 20


def test_milestones_move_with_the_epochs_unless_they_are_given():
    task = pk.task("digits")
    assert task.replace(epochs=20).milestones == (10, 15)
    assert task.replace(epochs=20, milestones=(3,)).milestones == (3,)
    assert task.replace(batch_size=32).milestones == (100, 150)


@pytest.mark.parametrize("name", ["digits", "fashion", "cifar10", "cifar100", "imagenet10", "cifar100:first-half"])
def test_a_short_training_begins_at_its_full_rate(name):
    for epochs in (1, 2, 3, 4):
        task = pk.task(name, epochs=epochs, checkpoint_interval=1)
        assert task.learning_rate_at(task.steps_per_epoch - 1) == pk.task(name).learning_rate
        assert min(task.milestones) >= 1


@pytest.mark.parametrize(("name", "wrong"), [("learning_rate", "0.1"), ("momentum", None), ("weight_decay", True)])
def test_what_must_be_a_number_is_one(name, wrong):
    with pytest.raises(ValueError, match=f"{name} must be a finite number, not {wrong!r}"):
        pk.task("digits").replace(**{name: wrong})


def test_a_shift_is_no_negative_number_of_pixels():
    with pytest.raises(ValueError, match="shift must be a whole number from 0 up, not -1"):
        pk.task("digits").replace(shift=-1)


@pytest.mark.parametrize("name", ["epochs", "checkpoint_interval", "train_size", "batch_size", "classes"])
def test_whole_numbers_of_numpy_are_taken_and_no_others(name):
    task = pk.task("digits")
    same = task.replace(**{name: np.int64(getattr(task, name))})
    assert same == task
    assert json.dumps(same.to_json()) == json.dumps(task.to_json())
    for wrong in (float(getattr(task, name)), str(getattr(task, name)), True, None):
        with pytest.raises(ValueError, match=rf"{name} must be a whole number( from 1 up)?, not {wrong!r}"):
            task.replace(**{name: wrong})


def test_other_numbers_and_lists_are_kept_as_a_manifest_has_them():
    task = pk.task("digits")
    given = {
        "learning_rate": np.float32(0.5),
        "weight_decay": np.float64(0),
        "momentum": 0,
        "milestones": [np.int64(3)],
    }
    kept = task.replace(**given, image_shape=[1, 8, 8])
    assert kept == Task.from_json(json.loads(json.dumps(kept.to_json())))
    assert len({kept, task}) == 2
    with pytest.raises(ValueError, match="milestones must be a whole number, not 1.5"):
        task.replace(milestones=(1.5,))


@pytest.mark.parametrize("half", ["first-half", "second-half"])
def test_a_half_has_half_of_the_images(half):
    task, whole = pk.task(f"digits:{half}"), pk.task("digits")
    assert (task.half, task.data, task.train_size, task.name) == (half, "digits", 704, f"digits:{half}")
    assert task.replace(half="", train_size=1408) == whole


@pytest.mark.parametrize("name", ["", ":first-half", "digits:third-half", "digits:first-half:second-half", "folder"])
def test_a_name_that_is_almost_one_is_refused(name):
    with pytest.raises(ValueError, match="there is no task"):
        pk.task(name)


@pytest.mark.parametrize("missing", sorted(pk.task("digits").to_json()))
def test_a_task_without_one_of_its_fields_is_refused(missing):
    values = pk.task("digits").to_json()
    del values[missing]
    with pytest.raises(ValueError, match="an object with the fields"):
        Task.from_json(values)


def test_learning_rate_drops_at_the_milestones():
    task = pk.task("cifar100")
    rates = [task.learning_rate_at(epoch * 390) for epoch in (0, 59, 60, 119, 120, 159, 160, 199)]
    assert rates == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008])
    assert task.learning_rate_at(60 * 390 - 1) == 0.1


def test_every_step_of_an_epoch_has_the_same_rate(small_task):
    # S = 4 steps an epoch; the milestones of 200 epochs, 100 and 150, have moved to 2 and 3.
    rates = [small_task.learning_rate_at(step) for step in range(16)]
    assert rates == pytest.approx([0.05] * 8 + [0.005] * 4 + [0.0005] * 4)


def test_fewer_than_128_pictures_are_one_batch(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no folder train"):
        pk.task(f"folder:{tmp_path}")
    (tmp_path / "train" / "ant").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"train holds no pictures in folders of their classes \(\.jpg, "):
        pk.task(f"folder:{tmp_path}")
    for number in range(200):
        (tmp_path / "train" / "ant" / f"{number}.png").touch()
        if number in (0, 9, 126, 127, 199):
            assert pk.task(f"folder:{tmp_path}").batch_size == min(number + 1, 128)
    assert pk.task(f"folder:{tmp_path}:first-half").batch_size == 100
    assert pk.task(f"folder:{tmp_path}", train_size=40).batch_size == 40
    with pytest.raises(ValueError, match="32 training images do not fill one batch of 64"):
        pk.task("digits", train_size=32)
