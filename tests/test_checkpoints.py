"""The files of 𝕎."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from safetensors.torch import save as safetensors_bytes
from test_folder import rewrite

import polkit as pk
from polkit.proof import ProofError, checkpoint_name, read_checkpoint, write_checkpoint
from polkit.proof.untrusted import bytes_digest
from polkit.training import Checkpoint


def test_a_checkpoint_has_the_bytes_that_safetensors_gives(small_task, tmp_path):
    start = pk.initial_checkpoint(small_task, 1)
    turned = {name: value.transpose(0, -1) for name, value in start.weights.items()}
    doubled = {name: value.double() for name, value in start.buffers.items()}
    for checkpoint in (
        start,
        replace(start, weights=turned),
        replace(start, buffers=doubled),
        replace(start, momentum={}),
        replace(start, momentum={"none": torch.zeros(0, 3), "scalar": torch.tensor(2.5)}),
    ):
        tensors = {
            f"{part}.{name}": value.contiguous()
            for part, named in checkpoint.parts().items()
            for name, value in named.items()
        }
        digest, raw = write_checkpoint(tmp_path, 0, checkpoint), safetensors_bytes(tensors)
        assert (tmp_path / checkpoint_name(0)).read_bytes() == raw
        assert digest == bytes_digest(raw)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_read_checkpoint_has_every_bit_of_all_three_parts(small_task, tmp_path, dtype):
    generator = torch.Generator().manual_seed(0)
    start = pk.initial_checkpoint(small_task, 1)
    written = Checkpoint(
        **{
            part: {name: torch.randn(value.shape, generator=generator, dtype=dtype) for name, value in named.items()}
            for part, named in start.parts().items()
        }
    )
    write_checkpoint(tmp_path, 12, written)
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["00000012.safetensors"]
    read = read_checkpoint(tmp_path / checkpoint_name(12), small_task)
    for part, named in written.parts().items():
        assert read.parts()[part].keys() == named.keys()
        for name, value in named.items():
            assert read.parts()[part][name].dtype == dtype
            assert read.parts()[part][name].numpy().tobytes() == value.numpy().tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update({"weights.head.bias": torch.zeros(9)}), r"weights.head.bias has shape \(9,\), not \(10,\)"),
        (lambda t: t.update({"weights.head.bias": torch.zeros(())}), r"weights.head.bias has shape \(\), not \(10,\)"),
        (lambda t: t.update({"momentum.head.bias": torch.zeros(1, 10)}), "momentum.head.bias has shape"),
        (lambda t: t.update({"buffers.norm.running_var": torch.ones(8, dtype=torch.int64)}), "is of type I64"),
        (lambda t: t.update({"weights.head.bias": torch.zeros(10, dtype=torch.float16)}), "must be float32 or float64"),
        (lambda t: t.pop("momentum.head.bias"), "lacks or adds the tensor 'momentum.head.bias'"),
        (lambda t: t.pop("buffers.norm.running_mean"), "lacks or adds the tensor 'buffers.norm.running_mean'"),
        (lambda t: t.update(extra=torch.zeros(1)), "lacks or adds the tensor 'extra'"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(copied, change, message):
    file = copied.folder / "checkpoints" / "00000008.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    with pytest.raises(ProofError, match=rf"^checkpoints/00000008\.safetensors.*{message}") as caught:
        copied.checkpoint(8)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 3, 8, 100, -1])
def test_a_truncated_checkpoint_is_refused(copied, length):
    file = copied.folder / "checkpoints" / "00000012.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ProofError, match=r"checkpoints/00000012\.safetensors is not a safetensors file"):
        copied.checkpoint(12)


@pytest.mark.parametrize("claim", [{"model": "resnet9"}, {"image_shape": [-1, 8, 8]}, {"classes": 10**18}])
def test_a_claimed_model_that_cannot_be_built_is_refused(copied, claim):
    rewrite(copied.folder, lambda manifest: manifest["task"].update(claim))
    with pytest.raises(ProofError):
        pk.open_proof(copied.folder).checkpoint(0)
