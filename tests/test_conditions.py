"""What Conditions change, and what they leave behind."""

import pytest
import torch

import polkit as pk
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
        ({"threads": 0}, "at least 1"),
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
        return pk.train(small_task.replace(epochs=1), 0, under, pk.training_points(small_task)).weights

    start = pk.initial_checkpoint(small_task, 0).weights
    usual = trained(pk.Conditions())
    other = {name: value.float() for name, value in trained(conditions).items()}
    moved, apart = pk.distances(usual, start)["l2"], pk.distances(usual, other)["l2"]
    assert 0 < apart < 0.2 * moved
