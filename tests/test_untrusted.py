"""Files that an adversary wrote: what each kind of fault is called, and what refusing it costs."""

import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from importlib import import_module

import numpy as np
import pytest
import torch
from mutations import reseal
from safetensors import deserialize
from safetensors.torch import load_file, save, save_file

import polkit as pk
from polkit.__main__ import main
from polkit.proof import ProofError, read_weights
from polkit.proof.untrusted import DTYPES, parse_array, parse_json, parse_tensors, read_plain, shown
from polkit.verifier import OPTIMISER, STRICT, load_calibration
from tests.benchmarks.loops import STATUS

verdict_module = import_module("polkit.verifier.verdict")
MIDDLE = "checkpoints/00000008.safetensors"


def refusal(folder, calibration):
    """The reasons of a rejection, each one printable line."""
    began = time.perf_counter()
    verdict = pk.verify(folder, calibration)
    assert time.perf_counter() - began < 10
    assert not verdict.accepted
    assert all(str(reason).isprintable() for reason in verdict.reasons)
    return [str(reason) for reason in verdict.reasons]


SOMETHING_ELSE = {
    "a pipe": lambda file, kept: os.mkfifo(file),
    "a socket": lambda file, kept: bind(file),
    "a folder": lambda file, kept: file.mkdir(),
    "a link to the very file": lambda file, kept: file.symlink_to(kept),
    "a link to /dev/zero": lambda file, kept: file.symlink_to("/dev/zero"),
    "a link to itself": lambda file, kept: file.symlink_to(file),
}


def bind(file):
    here = os.getcwd()
    os.chdir(file.parent)  # a socket's path has 108 characters at most
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(file.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("what", SOMETHING_ELSE)
@pytest.mark.parametrize("name", ["manifest.json", "batches.npy", "augmentation.npy", MIDDLE])
def test_what_is_no_plain_file_is_refused_and_not_waited_for(copied, small_calibration, tmp_path, name, what):
    file = copied.folder / name
    SOMETHING_ELSE[what](file, file.rename(tmp_path / "kept"))
    (first, *_) = refusal(copied.folder, small_calibration)
    in_its_place = what == "a folder" and name != "manifest.json"
    expected = f"(extra: {name}/|missing: {name})" if in_its_place else f"{name} is missing, or not a file"
    assert re.search(expected, first), first
    assert pk.verify(copied.folder, small_calibration).usable == (name != "manifest.json")


@pytest.mark.parametrize("what", ["a pipe", "a link to the very file", "a link to itself", "a file"])
def test_the_folder_of_checkpoints_is_a_folder(copied, small_calibration, tmp_path, what):
    inner = copied.folder / "checkpoints"
    kept = inner.rename(tmp_path / "kept")
    SOMETHING_ELSE.get(what, lambda file, _: file.touch())(inner, kept)
    assert refusal(copied.folder, small_calibration) == ["malformed: checkpoints is a link or a file, not a folder"]
    with pytest.raises(ProofError, match="checkpoints"):
        copied.checkpoint(8)


def test_a_path_that_the_caller_names_may_be_a_link_and_a_hard_link_is_a_file(copied, small_calibration, tmp_path):
    (tmp_path / "link").symlink_to(copied.folder)
    os.link(copied.folder / MIDDLE, tmp_path / "beside")
    assert pk.verify(tmp_path / "link", small_calibration).accepted
    small_calibration.save(tmp_path / "c.json")
    (tmp_path / "c-link.json").symlink_to(tmp_path / "c.json")
    assert load_calibration(tmp_path / "c-link.json") == small_calibration


@pytest.mark.parametrize(
    "name",
    [
        "../copy/batches.npy",
        "/etc/passwd",
        "checkpoints/../batches.npy",
        "./batches.npy",
        "a\0b",
        "",
        "checkpoints/00000008.SAFETENSORS",
        "checkpoints/0000000８.safetensors",
    ],
)
def test_a_name_in_the_manifest_is_never_a_path(copied, small_calibration, name):
    manifest = json.loads((copied.folder / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"]["batches.npy"]
    (copied.folder / "manifest.json").write_text(json.dumps(manifest))
    assert refusal(copied.folder, small_calibration) == [f"missing: {shown(name)} is in the manifest"]


def test_names_of_files_cannot_paint_a_terminal_or_fill_it(copied, small_calibration, capsys, tmp_path):
    for name in (b"\x1b[2J\x1b[31maccepted\n", b"\xff\xfe", "\u202egnp.exe".encode(), b"x" * 255):
        os.close(os.open(os.fsencode(copied.folder) + b"/" + name, os.O_CREAT))
    shown_names = {"\\x1b[2J\\x1b[31maccepted\\n", "\\udcff\\udcfe", "\\u202egnp.exe", "x" * 255}
    assert set(refusal(copied.folder, small_calibration)) == {f"extra: {name}" for name in shown_names}
    for number in range(30):
        (copied.folder / f"y{number}").mkdir()
    found = refusal(copied.folder, small_calibration)
    assert found[-1] == "extra: the folder holds more than 30 files, a proof of these steps does not"
    assert len(found) == 22
    assert {text.partition(":")[0] for text in found} == {"extra"}
    small_calibration.save(tmp_path / "c.json")
    assert main(["verify", str(copied.folder), "--calibration", str(tmp_path / "c.json")]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 11  # with the verifier's draws


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 10**8}, "claims 100000000 steps, no training of this task has more than 16"),
        ({"steps": 20}, "claims 20 steps, no training of this task has more than 16"),
        ({"checkpoint_interval": 2}, "claims k = 2, the task has 4"),
        ({"classes": 10**12}, "claims classes = 1000000000000, this task has 10"),
        ({"image_shape": [1, 10**6, 10**6]}, "claims image_shape = [1, 1000000, 1000000], this task has [1, 8, 8]"),
        ({"train_size": 10**9}, "claims 1000000000 training images, a proof of this task has 3072 at most"),
        ({"data": "cifar10"}, "claims the data of cifar10, this task's images are (1, 8, 8)"),
        ({"model": "\x1b[2J"}, "claims model = \\x1b[2J, this task has resnet8"),
        ({"classes": 10**4000}, "claims classes = 1000"),
    ],
)
def test_a_manifest_that_asks_for_another_task(copied, small_calibration, monkeypatch, change, message):
    facts = {name: value for name, value in change.items() if name in ("steps", "checkpoint_interval")}
    task = {name: value for name, value in change.items() if name not in facts}
    pk.unit_costs(copied.task)  # the verifier's own model, counted once
    monkeypatch.setattr(
        "polkit.training.models.SmallResNet.__init__", lambda *_, **__: pytest.fail("a model was built")
    )
    reseal(copied.folder, task=copied.task.to_json() | task, **facts)
    assert message in refusal(copied.folder, small_calibration)[0]


NOT_JSON = {
    "a field twice": (lambda text: text.replace('"steps": 16', '"steps": 8, "steps": 16'), "it names 'steps' twice"),
    "a file twice": (
        lambda text: text.replace('"files": {', '"files": {"batches.npy": 0, '),
        "it names 'batches.npy' twice",
    ),
    "NaN": (lambda text: text.replace('"momentum": 0.9', '"momentum": NaN'), "NaN is no JSON number"),
    "Infinity": (lambda text: text.replace('"momentum": 0.9', '"momentum": -Infinity'), "-Infinity is no JSON number"),
    "1e999": (lambda text: text.replace('"momentum": 0.9', '"momentum": 1e999'), "1e999 is no JSON number"),
    "100,000 digits": (lambda text: text.replace('"steps": 16', f'"steps": {"9" * 10**5}'), "Exceeds the limit"),
    "half a surrogate pair": (lambda text: text.replace('"resnet8"', '"\\ud800"'), "surrogates not allowed"),
    "half of one in a list": (lambda text: text.replace("[\n   1,", '["\\udfff", 1,', 1), "surrogates not allowed"),
    "a mark": (lambda text: "\ufeff" + text, "BOM"),
    "UTF-16": (lambda text: text.encode("utf-16"), "can't decode"),
    "Latin-1": (lambda text: text.replace("digits", "dïgits").encode("latin-1"), "can't decode"),
    "nested lists": (lambda text: text.replace('"steps": 16', '"steps": ' + "[" * 9000), "nested more than 100 deep"),
    "nested objects": (lambda text: '{"a":' * 101, "nested more than 100 deep"),
    "a million lists": (lambda text: "[" + "[]," * 10**6 + "1]", "little but lists and objects"),
}


@pytest.mark.parametrize("what", NOT_JSON)
def test_a_manifest_that_is_not_strictly_json(copied, small_calibration, what):
    change, message = NOT_JSON[what]
    text = change((copied.folder / "manifest.json").read_text())
    (copied.folder / "manifest.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    (only,) = refusal(copied.folder, small_calibration)
    assert only.startswith("unusable: manifest.json is not JSON (")
    assert message in only


@pytest.mark.parametrize("value", [16.0, True, "16", None, [16], {}, -16, 0, 10**30])
@pytest.mark.parametrize("field", ["steps", "checkpoint_interval", "format_version"])
def test_a_whole_number_is_nothing_else(copied, small_calibration, field, value):
    reseal(copied.folder, **{field: value})
    (only,) = refusal(copied.folder, small_calibration)
    assert only.startswith("unusable: manifest.json: ")


@pytest.mark.parametrize("noted", [{"bytes": 1.0, "sha256": ""}, {"bytes": True, "sha256": ""}, {"bytes": 1}, [], None])
def test_a_file_is_named_with_bytes_and_digest(copied, small_calibration, noted):
    manifest = json.loads((copied.folder / "manifest.json").read_text())
    manifest["files"]["batches.npy"] = noted
    (copied.folder / "manifest.json").write_text(json.dumps(manifest))
    (only,) = refusal(copied.folder, small_calibration)
    assert only == ("unusable: manifest.json: of 'batches.npy' it must name the bytes and the sha256, and nothing else")


def write_header(file, header, data=b"", declared=None):
    file.write_bytes((len(header) if declared is None else declared).to_bytes(8, "little") + header + data)


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


SAFETENSORS = {
    "a header of 100 MB": (b" " * 100, 10**8, "claims 100000000 bytes, 1048576 at most"),
    "a header of 2^63 bytes": (b"{}", 2**63, "1048576 at most"),
    "overlap": (json.dumps({"a": entry([1], 0, 4), "b": entry([2], 0, 8)}).encode(), None, "invalid offset"),
    "a tensor of terabytes": (json.dumps({"a": entry([10**12], 0, 8)}).encode(), None, "invalid shape"),
    "a size that overflows": (json.dumps({"a": entry([2**62, 4], 0, 8)}).encode(), None, "overflow"),
    "a negative size": (json.dumps({"a": entry([-2], 0, 8)}).encode(), None, "invalid value"),
    "one name twice": (
        b'{"a": %s, "a": %s}' % (json.dumps(entry([1], 0, 4)).encode(), json.dumps(entry([2], 0, 8)).encode()),
        None,
        "names 'a' twice",
    ),
    "4-bit floats": (json.dumps({"a": entry([16], 0, 8, "F4")}).encode(), None, "is of type F4, it must be float32"),
    "nothing": (json.dumps({"a": entry([0, 2**62], 0, 0)}).encode(), None, "not fully covered"),
    "no object": (b"[" * 10**5, None, "invalid type"),
    "a list for a tensor": (json.dumps({"a": ["F32", [2], [0, 8]]}).encode(), None, "no object for 'a'"),
}


@pytest.mark.parametrize("what", SAFETENSORS)
def test_a_safetensors_file_that_declares_what_it_does_not_hold(tmp_path, what):
    header, declared, message = SAFETENSORS[what]
    write_header(tmp_path / "t", header, bytes(8), declared)
    with pytest.raises(ProofError, match=f"^t.*({message})|header of t.*({message})"):
        parse_tensors((tmp_path / "t").read_bytes(), "t", {"a": ((torch.float32,), (2,))})


@pytest.mark.parametrize("shape", [(3,), (2, 3), (1, 1, 1), (1, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("padding", range(9))  # of the header, so that what follows lies at any place
def test_tensors_are_those_that_the_library_reads(tmp_path, dtype, shape, padding):
    body = torch.arange(math.prod(shape) + 3, dtype=torch.uint8) + 1  # three bytes in front of what is wanted
    body = np.resize(body.numpy(), 3 + math.prod(shape) * dtype.itemsize)
    kind = {value: name for name, value in DTYPES.items()}[dtype]
    header = {
        "front": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
        "a": {"dtype": kind, "shape": list(shape), "data_offsets": [3, len(body)]},
    }
    write_header(tmp_path / "t", json.dumps(header).encode() + b" " * padding, body.tobytes())
    raw = (tmp_path / "t").read_bytes()
    wanted = {"a": ((dtype,), shape)}
    if not math.prod(shape):
        with pytest.raises(ProofError, match="a is empty"):
            parse_tensors(raw, "t", wanted, others=True)
        return
    found = parse_tensors(raw, "t", wanted, others=True)["a"]
    assert found.dtype == dtype
    assert found.shape == shape
    assert found.numpy().tobytes() == dict(deserialize(raw))["a"]["data"]


def test_a_header_that_was_accepted_before_is_judged_with_every_file_again():
    wanted = {"a": ((torch.float32,), (2,))}
    raw = save({"a": torch.tensor([1.0, 2.0])})
    first = parse_tensors(raw, "t", wanted)["a"]
    other = parse_tensors(raw[:-4] + np.float32(5).tobytes(), "t", wanted)["a"]
    assert (first.tolist(), other.tolist()) == ([1.0, 2.0], [1.0, 5.0])
    other += 1  # each has memory of its own
    assert parse_tensors(raw, "t", wanted)["a"].tolist() == first.tolist() == [1.0, 2.0]
    for wrong in (raw[:-1], raw[:-8], raw + b"0", raw[:20], raw[:5], b""):
        with pytest.raises(ProofError, match="t is not a safetensors file"):
            parse_tensors(wrong, "t", wanted)
    with pytest.raises(ProofError, match="a has shape"):
        parse_tensors(raw, "t", {"a": ((torch.float32,), (2, 1))})


def npy(header, version=b"\x01\x00", size=2):
    return b"\x93NUMPY" + version + len(header).to_bytes(size, "little") + header


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (npy(b"{'descr': '<i4', 'fortran_order': True, 'shape': (4, 2), }\n"), "holds .*True.*, it must hold .*False"),
        (npy(b"{'descr': '<i4', 'fortran_order': False, 'shape': (1000000000000, 2), }\n"), "holds .*1000000000000"),
        (npy(b"{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (4, 2), }\n"), "holds .*'a'"),
        (npy(b"{'descr': '>i4', 'fortran_order': False, 'shape': (4, 2), }\n"), "holds .*>i4"),
        (npy(b"{'descr': '<i4', 'fortran_order': False, 'shape': (4, 2), }\n"), "holds 0 bytes of data"),
        (npy(b"{'descr': '<i4', 'fortran_order': False, 'shape': (4, 2), }\n") + bytes(33), "holds 33 bytes of data"),
        (npy(b"{'descr': '<i4', 'fortran_order': False, 'shape': (4, 2), }\n", b"\x02\x00", 4), "not .* version 1.0"),
        (npy(b"{'descr': " + b"(" * 60_000), "holds"),
        (npy(b"__import__('os').abort()"), "not a NumPy array file"),
        (b"\x93NUMPY\x01\x00\xff\xff{'descr': ", "not a NumPy array file"),
        (b"", "not a NumPy array file"),
        (b"PK\x03\x04", "not a NumPy array file"),
    ],
)
def test_an_array_is_of_exactly_one_form(raw, message):
    with pytest.raises(ProofError, match=f"^x.npy (is )?{message}") as caught:
        parse_array(raw, "x.npy", np.int32, (4, 2))
    assert len(str(caught.value)) < 500


def test_an_array_of_that_form_is_read_as_numpy_reads_it(tmp_path):
    for values in (np.arange(8, dtype=np.int32).reshape(4, 2), np.arange(5), np.zeros((3, 32), np.uint8)):
        np.save(tmp_path / "x.npy", values)
        read = parse_array((tmp_path / "x.npy").read_bytes(), "x.npy", values.dtype, values.shape)
        np.testing.assert_array_equal(read, np.load(tmp_path / "x.npy"))
        assert read.flags.writeable


@pytest.mark.parametrize("name", ["00000004", "00000012"])
@pytest.mark.parametrize(("room", "moment"), [("inspection", "check_data"), ("verdict", "replay")])
def test_a_file_that_changes_after_it_was_checked(copied, small_calibration, monkeypatch, room, moment, name):
    """What was hashed is what is used, or nothing is accepted: here the file changes between the two."""
    file = copied.folder / f"checkpoints/{name}.safetensors"
    module = import_module(f"polkit.verifier.{room}")
    true_one = getattr(module, moment)

    def exchanged(*given, **named):
        tensors = load_file(file)
        save_file(tensors | {"weights.head.bias": tensors["weights.head.bias"] + 1e-9}, file)
        return true_one(*given, **named)

    assert pk.verify(copied.folder, small_calibration, top_q="all").accepted
    monkeypatch.setattr(module, moment, exchanged)
    verdict = pk.verify(copied.folder, small_calibration, top_q="all")
    assert not verdict.accepted
    detail = f"checkpoints/{name}.safetensors changed after its digest had been checked"
    if moment == "replay":
        assert [str(reason) for reason in verdict.reasons] == [f"malformed: {detail}"]


def test_a_file_that_vanishes_after_it_was_checked(copied, small_calibration, monkeypatch):
    true_one = verdict_module.replay

    def removed(*given, **named):
        shutil.rmtree(copied.folder)
        return true_one(*given, **named)

    monkeypatch.setattr(verdict_module, "replay", removed)
    (only,) = refusal(copied.folder, small_calibration)
    assert "is missing, or not a file" in only


def test_a_file_that_may_not_be_read(copied, small_calibration, monkeypatch):
    true_one = os.open

    def refused(file, *given, **named):
        if str(file).endswith("signatures.npy"):
            raise PermissionError(13, "Permission denied")
        return true_one(file, *given, **named)

    monkeypatch.setattr(os, "open", refused)
    assert refusal(copied.folder, small_calibration) == ["malformed: signatures.npy cannot be read (Permission denied)"]


def test_a_note_beside_the_folder_decides_nothing_and_a_bad_one_is_a_sentence(small_proof, small_calibration, tmp_path):
    folder = shutil.copytree(small_proof.folder, tmp_path / "copy")
    note = tmp_path / "copy.record.json"
    shutil.copy(small_proof.folder.with_name("proof.record.json"), note)
    proof = pk.open_proof(folder)
    assert proof.cost() == small_proof.cost()
    plain = pk.verify(proof, small_calibration)
    for text in ("", "[]", "{}", '{"cost": 1, "trace": 2, "counts": 3}', "[" * 10**5, '{"cost": {"seconds": 1}}'):
        note.write_text(text)
        for read in (proof.cost, proof.counts, proof.trace):
            with pytest.raises(ProofError, match=r"^copy\.record\.json is not the note"):
                read()
    note.unlink()
    os.mkfifo(note)  # whoever opened it would wait for ever
    with pytest.raises(ProofError, match=r"^copy\.record\.json is missing, or not a file"):
        proof.cost()
    assert pk.verify(proof, small_calibration).reasons == plain.reasons == ()


@pytest.mark.parametrize("part", ["weights", "buffers"])
def test_weights_from_elsewhere(small_proof, small_task, tmp_path, part):
    final = small_proof.final_weights()
    file = tmp_path / "model.safetensors"
    key = "head.bias" if part == "weights" else "norm.running_var"
    for value in (torch.nan, torch.inf):
        save_file(final.weights | final.buffers | {key: torch.full_like(final.parts()[part][key], value)}, file)
        with pytest.raises(ProofError, match=f"model.safetensors: {part}.{key} holds NaN or infinity"):
            read_weights(file, small_task)
    with file.open("wb") as opened:
        opened.truncate(2**40)
    with pytest.raises(ProofError, match=r"model\.safetensors has 1099511627776 bytes"):
        read_weights(file, small_task)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ProofError, match=r"model\.safetensors is missing, or not a file"):
        read_weights(file, small_task)


CALIBRATIONS = {
    "a field twice": lambda text: text.replace('"margin"', '"margin": 9, "margin"'),
    "NaN": lambda text: text.replace('"margin": 1.5', '"margin": NaN'),
    "a number no float holds": lambda text: text.replace('"margin": 1.5', f'"margin": {10**400}'),
    "truth for a number": lambda text: text.replace('"margin": 1.5', '"margin": true'),
    "a negative δ": lambda text: re.sub(r'"linf": [\d.]+', '"linf": -1', text, count=1),
    "another distance": lambda text: text.replace('"linf"', '"l3": 1, "linf"', 1),
    "a million threads": lambda text: text.replace('"threads": 1', '"threads": 1000000'),
    "half a thread": lambda text: text.replace('"threads": 1', '"threads": 1.5'),
    "a device that computes nothing": lambda text: text.replace('"device": "cpu"', '"device": "meta"'),
    "10^12 classes": lambda text: text.replace('"classes": 10', f'"classes": {10**12}'),
    "a list": lambda text: "[]",
    "no costs": lambda text: text.replace('"stored_bytes": 0', '"stored_bytes": "none"'),
    "a megabyte": lambda text: text + " " * 2**20,
    "nested": lambda text: "[" * 10**5,
}


@pytest.mark.parametrize("what", CALIBRATIONS)
def test_a_calibration_from_elsewhere(small_calibration, tmp_path, what):
    file = tmp_path / "c.json"
    small_calibration.save(file)
    changed = CALIBRATIONS[what](file.read_text())
    assert changed != file.read_text()
    file.write_text(changed)
    with pytest.raises(ValueError, match=r"c\.json is not a calibration that `polkit calibrate` wrote") as caught:
        load_calibration(file)
    assert str(caught.value).isprintable()


def test_a_drop_that_leaves_no_learning_rate(copied, small_calibration):
    """The verifier of the public code, who lets the prover decide its optimiser, must not fall over it either."""
    regime = STRICT.replace(prover_decides=OPTIMISER)
    for change in (
        {"learning_rate_drop": 1e300},
        {"learning_rate_drop": 1e-300},
        {"milestones": [0] * 2000},
        {"learning_rate": 1e308, "learning_rate_drop": 1e-9},
        {"learning_rate": 10**400},
        {"learning_rate": 1e39},  # more than float32 has: torch raises where it meets that
        {"weight_decay": 1e300},
    ):
        reseal(copied.folder, task=copied.task.to_json() | {"milestones": [0, 0, 1, 2]} | change)
        verdict = pk.verify(copied, small_calibration, regime=regime)
        assert [reason.kind for reason in verdict.reasons] in (["task"], ["unusable"]), (change, verdict)


def test_json_of_every_kind_is_read_as_the_library_reads_it():
    for value in (None, True, 1, 1.5, "δ", "😀", [1, [2]], {"a": {"b": []}}):
        assert parse_json(json.dumps(value).encode(), "x") == value


def test_text_is_shown_on_one_line_and_its_ends_are_kept():
    assert shown("δ = 1 · 𝕎") == "δ = 1 · 𝕎"
    assert shown("a\n\x1b[31m\ud800") == "a\\n\\x1b[31m\\ud800"
    assert shown("a" * 10**6 + "end").endswith("end")
    assert len(shown("a" * 10**6)) < 420


def test_a_file_that_grows_while_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"abc")
    true_one = os.fstat
    monkeypatch.setattr(os, "fstat", lambda number: os.stat_result([*true_one(number)[:6], 2, *true_one(number)[7:]]))
    with pytest.raises(ProofError, match="x changed while it was being read"):
        read_plain(tmp_path / "x", "x", 10)


WORST = """
import json, sys, time
from pathlib import Path
import polkit as pk
from polkit.verifier import load_calibration
from tests.benchmarks.loops import peak_bytes

folder, calibration = Path(sys.argv[1]), load_calibration(sys.argv[2])
kept = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
manifest = folder / "manifest.json"
text = manifest.read_text()
assert pk.verify(folder, calibration, top_q="all").accepted  # what any verdict takes is no part of a refusal's

before = peak_bytes()

def judge(name):
    began = time.process_time()  # of this process: others may have the cores
    verdict = pk.verify(folder, calibration, top_q="all")
    assert not verdict.accepted
    print(json.dumps([name, time.process_time() - began, peak_bytes() - before, str(verdict.reasons[0])]), flush=True)
    for file, raw in kept.items():
        file.write_bytes(raw)
    (folder / "points.safetensors").unlink(missing_ok=True)

def sparse(name):
    with (folder / name).open("wb") as opened:
        opened.truncate(2**40)
    facts = json.loads(text)
    facts["files"][name] = {"bytes": 2**40, "sha256": "0" * 64}
    if name != "manifest.json":
        manifest.write_text(json.dumps(facts))

(folder / "extra").touch()
fillers = {"lists": "[],", "objects": "{},", "numbers": "1.5,", "texts": '"aé",', "keys": '{"a":1},',
           "long lists": "[1.5,2.5,3.5,4.5],", "pairs": '{"a":1.5,"b":2.5},'}
for name, filler in fillers.items():
    filler = filler * ((2**24 - 2**15) // len(filler.encode()))
    manifest.write_text(json.dumps(json.loads(text) | {"versions": {}}).replace(
        '"versions": {}', '"versions": {"a": [' + filler[:-1] + "]}"))
    judge("16 MB of " + name)
(folder / "extra").unlink()
for name, filler in {"brackets": "[" * 2**24, "braces": '{"a":' * (2**24 // 5), "one number": "9" * 2**24,
                     "one fraction": "1." + "9" * (2**24 - 2)}.items():
    manifest.write_text(filler)
    judge("16 MB of " + name)
for name in ("manifest.json", "checkpoints/00000008.safetensors", "batches.npy", "points.safetensors"):
    sparse(name)
    judge("1 TB of " + name)
manifest.write_text(json.dumps(json.loads(text) | {"steps": 10**8}))
judge("10^8 steps")
facts = json.loads(text)
facts["files"] |= {f"x{number}": {"bytes": 0, "sha256": ""} for number in range(200_000)}
manifest.write_text(json.dumps(facts))
judge("200,000 names in the manifest")
for number in range(20_000):
    (folder / "checkpoints" / f"x{number}").touch()
judge("20,000 extra files")
"""


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="reads Linux's /proc")
def test_the_worst_that_was_found_costs_seconds_and_less_than_a_gigabyte(copied, small_calibration, tmp_path):
    small_calibration.save(tmp_path / "c.json")
    command = [sys.executable, "-c", WORST, copied.folder, tmp_path / "c.json"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(found) == 18
    for name, seconds, extra_bytes, reason in found:
        print(f"{name}: {seconds:.2f} s, {extra_bytes / 2**20:.0f} MB: {reason}")
        assert seconds < 10, name
        assert extra_bytes < 2**30, name
        assert reason.isprintable()
    reasons = [reason for *_, reason in found]
    for name in ("manifest.json", MIDDLE, "batches.npy", "points.safetensors"):
        assert any(re.search(rf"{re.escape(name)} has 1099511627776 bytes", reason) for reason in reasons), name
