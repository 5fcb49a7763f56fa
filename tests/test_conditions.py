"""What Conditions change, what they leave behind, and who waits for whom."""

from contextlib import nullcontext
from dataclasses import replace
from threading import Event, Thread

import pytest
import torch

import polkit as pk
from polkit.prover import train
from polkit.training import applied


def test_applied_takes_its_settings_back_after_an_error():
    def settings():
        cudnn = torch.backends.cudnn
        return torch.get_num_threads(), torch.backends.mkldnn.enabled, cudnn.deterministic, cudnn.benchmark

    def interrupted():
        with applied(pk.Conditions(threads=before[0] + 1, onednn=not before[1])):
            assert settings() == (before[0] + 1, not before[1], True, False)
            raise KeyError("here")

    before = settings()
    with pytest.raises(KeyError, match="here"):
        interrupted()
    assert settings() == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "fp8"}, "one of float32, bf16, float64"),
        ({"augmentation": "off"}, "one of replay, redraw"),
        ({"threads": 0}, "threads must be a whole number from 1 up, not 0"),
        ({"threads": 2.0}, "threads must be a whole number from 1 up, not 2.0"),
        ({"device": "abacus"}, "there is no device 'abacus'"),
        ({"device": "cuda", "compiled": True}, "compiled for the device cpu only, not for 'cuda'"),
    ],
)
def test_impossible_conditions_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        pk.Conditions(**settings)


@pytest.mark.parametrize(
    "conditions",
    [
        pk.Conditions(precision="bf16"),
        pk.Conditions(onednn=False),
        pk.Conditions(precision="float64"),
        pytest.param(
            pk.Conditions(device="cuda"),
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
        ),
    ],
    ids=["bf16", "no oneDNN", "float64", "cuda"],
)
def test_other_conditions_differ_a_little(small_task, conditions):
    def trained(under):
        return train(small_task.replace(epochs=1), 0, under, pk.training_points(small_task)).weights

    start = pk.initial_checkpoint(small_task, 0).weights
    usual = trained(pk.Conditions())
    other = {name: value.float() for name, value in trained(conditions).items()}
    moved, apart = pk.distances(usual, start)["l2"], pk.distances(usual, other)["l2"]
    assert 0 < apart < 0.2 * moved


def entering(conditions, seen, outer=None):
    """A thread that computes under these Conditions, after `outer`, for a moment."""

    def run():
        with applied(outer) if outer else nullcontext(), applied(conditions):
            seen.append((torch.get_num_threads(), torch.backends.mkldnn.enabled))

    thread = Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_differing_settings_of_the_process_wait_for_each_other_and_equal_ones_do_not():
    usual, other = pk.Conditions(threads=2), pk.Conditions(threads=2, onednn=False)
    before, seen = torch.backends.mkldnn.enabled, []
    with applied(other):
        equal = entering(other.replace(precision="bf16"), seen)
        equal.join(5)
        assert seen == [(2, False)]
        differing = [entering(usual, seen, outer) for outer in (None, usual)]
        differing[0].join(0.1)
        assert all(thread.is_alive() for thread in differing), "it computes under settings that are not its own"
        with applied(usual):  # a block within a block lets the others in while it changes the settings
            assert torch.backends.mkldnn.enabled
        assert not torch.backends.mkldnn.enabled
    for thread in differing:
        thread.join(5)
    assert seen[1:] == [(2, True)] * 2
    assert torch.backends.mkldnn.enabled == before


def test_two_threads_that_change_their_settings_within_a_block_do_not_wait_for_ever():
    usual, other = pk.Conditions(), pk.Conditions(onednn=False)
    inside, seen = Event(), []
    with applied(usual):
        nested = entering(other, seen, usual)
        inside.wait(0.05)
        with applied(other):
            pass
    nested.join(5)
    assert seen == [(1, False)]


ABSENT = [name for name in ("mps", "xpu") if not getattr(torch, name).device_count()]


@pytest.mark.parametrize("device", [*ABSENT, "meta", "hpu", "cuda:99", "mtia:3", "cpu:1"])
def test_a_device_that_is_not_there_gets_the_sentence_that_cuda_gets(small_proof, small_calibration, device):
    known = replace(small_calibration, conditions=pk.Conditions(device=device))
    with pytest.raises(ValueError, match=f"the device {device} is not to be had on this machine; cpu is"):
        pk.verify(small_proof, known)


def test_more_threads_than_the_machine_could_have_are_refused_at_once(small_proof, small_calibration, tmp_path):
    many = pk.Conditions(threads=10**6)
    for begin in (
        lambda: pk.verify(small_proof, replace(small_calibration, conditions=many)),
        lambda: pk.prove(small_proof.task, conditions=many, out=tmp_path / "x"),
        lambda: pk.calibrate(small_proof, conditions=many, out=tmp_path / "y"),
    ):
        with pytest.raises(ValueError, match="1000000 threads are asked for, and this machine has"):
            begin()
