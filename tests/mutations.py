"""Mutations of a valid proof, for hypothesis: dumb ones leave the manifest, after smart ones every digest is right."""

import hashlib
import json
import math
import os
import shutil
import struct

import numpy as np
import torch
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from polkit.proof.folder import write_manifest

CHECKPOINTS = [f"checkpoints/{step:08d}.safetensors" for step in (0, 2, 4)]
ARRAYS = ["batches.npy", "signatures.npy", "augmentation.npy"]
FILES = ["manifest.json", "points.safetensors", *ARRAYS, *CHECKPOINTS]
DENORMAL = 1e-42
# All that a file can hold: hypothesis's own alphabet, which it finds by encoding a million characters.
TEXT = st.characters(exclude_categories=["Cs"])


def reseal(folder, **changes):
    """What a careful adversary does: the manifest names the files as they are now."""
    facts = json.loads((folder / "manifest.json").read_bytes())
    facts.pop("files", None)
    write_manifest(folder, facts | changes)


def change_tensor(folder, step, key, change):
    """Replaces one tensor of the checkpoint of a step by `change` of it."""
    file = folder / "checkpoints" / f"{step:08d}.safetensors"
    tensors = load_file(file)
    tensors[key] = change(tensors[key].clone())
    save_file(tensors, file)


def change_array(folder, name, change):
    values = np.load(folder / name)
    change(values)
    np.save(folder / name, values)


def sign(folder):
    """The signatures that belong to the batches and points as they are now."""
    points, batches = load_file(folder / "points.safetensors"), np.load(folder / "batches.npy")
    signed = [
        hashlib.sha256(points["images"][row].numpy().tobytes() + points["labels"][row].numpy().tobytes()).digest()
        for row in torch.from_numpy(batches.astype(np.int64))
    ]
    np.save(folder / "signatures.npy", np.frombuffer(b"".join(signed), np.uint8).reshape(-1, 32))


# A mutation takes the folder of a copy and hypothesis' draw, and changes the files. "dumb" ones leave the manifest.


def flip_a_byte(folder, draw):
    file = folder / draw(st.sampled_from(FILES))
    raw = bytearray(file.read_bytes())
    raw[draw(st.integers(0, len(raw) - 1))] ^= draw(st.integers(1, 255))
    file.write_bytes(raw)


def truncate(folder, draw):
    file = folder / draw(st.sampled_from(FILES))
    raw = file.read_bytes()
    file.write_bytes(raw[: draw(st.integers(0, len(raw) - 1))])


def append(folder, draw):
    with (folder / draw(st.sampled_from(FILES))).open("ab") as file:
        file.write(draw(st.binary(min_size=1, max_size=40)))


def insert_or_cut(folder, draw):
    file = folder / draw(st.sampled_from(FILES))
    raw = file.read_bytes()
    begin = draw(st.integers(0, len(raw) - 1))
    file.write_bytes(raw[:begin] + draw(st.binary(max_size=8)) + raw[begin + draw(st.integers(1, 64)) :])


def swap_two_files(folder, draw):
    first, second = draw(st.permutations(FILES))[:2]
    kept = (folder / first).read_bytes()
    (folder / first).write_bytes((folder / second).read_bytes())
    (folder / second).write_bytes(kept)


def remove_a_file(folder, draw):
    (folder / draw(st.sampled_from(FILES))).unlink()


def add_a_file(folder, draw):
    signs = st.characters(exclude_categories=["Cs"], exclude_characters="/\0")
    name = draw(st.text(signs, min_size=1, max_size=40))
    place = folder / draw(st.sampled_from(["", "checkpoints", "more"]))
    place.mkdir(exist_ok=True)
    with (place / f"x{name}").open("wb") as file:
        file.write(draw(st.binary(max_size=9)))


def put_something_else(folder, draw):
    file = folder / draw(st.sampled_from([*FILES, "checkpoints"]))
    kept = folder.with_name("elsewhere")
    if kept.exists():
        shutil.rmtree(kept) if kept.is_dir() else kept.unlink()
    file.rename(kept)
    what = draw(st.sampled_from(["link", "broken link", "loop", "pipe", "folder", "empty", "sparse"]))
    if what == "folder" and file.name == "checkpoints":
        what = "link"
    if what == "pipe":
        os.mkfifo(file)
    elif what == "folder":
        file.mkdir()
    elif what in ("empty", "sparse"):
        with file.open("wb") as opened:
            opened.truncate(2**40 if what == "sparse" else 0)
    else:
        file.symlink_to({"link": kept, "broken link": folder / "nowhere", "loop": file}[what])


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(TEXT, max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(TEXT, max_size=5), inner, max_size=3),
    max_leaves=6,
)
LIKELY = [0, -1, 1, 2, 3, 4, 5, 8, 10**8, 10**12, 2.0, True, "", "../x"]


def change_a_field(folder, draw):
    manifest = json.loads((folder / "manifest.json").read_bytes())
    target = draw(st.sampled_from([manifest, manifest["task"], manifest["files"], *manifest["files"].values()]))
    name = draw(st.sampled_from([*sorted(target), "another"]))
    if draw(st.booleans()):
        target.pop(name, None)
    else:
        target[name] = draw(JSON_VALUES | st.sampled_from(LIKELY))
    (folder / "manifest.json").write_text(json.dumps(manifest))


def spoof_the_json(folder, draw):
    text = (folder / "manifest.json").read_text()
    spoofs = {
        "key twice": text.replace('"steps": 4', '"steps": 4, "steps": 4'),
        "other value first": text.replace('"steps": 4', '"steps": 8, "steps": 4'),
        "file twice": text.replace('"files": {', '"files": {"batches.npy": {}, '),
        "mark": "\ufeff" + text,
        "NaN": text.replace('"momentum": 0.9', '"momentum": NaN'),
        "infinity": text.replace('"momentum": 0.9', '"momentum": 1e999'),
        "many digits": text.replace('"steps": 4', '"steps": ' + "4" * 100_000),
        "float for int": text.replace('"steps": 4', '"steps": 4.0'),
        "truth for int": text.replace('"checkpoint_interval": 2', '"checkpoint_interval": true'),
        "half a pair": text.replace('"resnet8"', '"\\ud800"'),
        "nested": text.replace('"steps": 4', '"steps": ' + "[" * 50_000),
        "escape": text.replace('"resnet8"', '"\\u001b[2Jresnet8"'),
        "two documents": text + text,
    }
    encoded = {name: spoofed.encode() for name, spoofed in spoofs.items()}
    encoded |= {"UTF-16": text.encode("utf-16"), "UTF-32": text.encode("utf-32"), "Latin-1": text.encode() + b"\xff"}
    (folder / "manifest.json").write_bytes(draw(st.sampled_from(sorted(encoded.items())))[1])


def rewrite_the_json(folder, draw):
    """Another text for the same values: the one change of a manifest that a second verifier need not look into."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    names = draw(st.permutations(sorted(manifest)))
    indent = draw(st.sampled_from([None, 0, 2, 7]))
    (folder / "manifest.json").write_text(json.dumps({name: manifest[name] for name in names}, indent=indent))


# "smart" ones: the manifest is resealed afterwards, so that every digest is right.


def _tensors(folder, draw):
    file = folder / draw(st.sampled_from(CHECKPOINTS))
    tensors = load_file(file)
    return file, tensors, draw(st.sampled_from(sorted(tensors)))


SPECIAL = [math.nan, math.inf, -math.inf, DENORMAL, -DENORMAL, -0.0, 0.0, 3e38, -3e38, 1.0]


def set_a_value(folder, draw):
    file, tensors, key = _tensors(folder, draw)
    flat = tensors[key].view(-1)
    flat[draw(st.integers(0, len(flat) - 1))] = draw(st.sampled_from(SPECIAL) | st.floats(width=32))
    save_file(tensors, file)


def negate_zeros(folder, draw):
    file, tensors, key = _tensors(folder, draw)
    tensors[key][tensors[key] == 0] = -0.0
    save_file(tensors, file)


def add_noise(folder, draw):
    file, tensors, key = _tensors(folder, draw)
    noise = torch.randn(tensors[key].shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 999))))
    tensors[key] = tensors[key] + noise * 10.0 ** draw(st.floats(-12, 1))
    save_file(tensors, file)


DTYPES = [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]


def change_a_type(folder, draw):
    file, tensors, key = _tensors(folder, draw)
    dtype = draw(st.sampled_from(DTYPES))
    for name in tensors if draw(st.booleans()) else [key]:
        tensors[name] = tensors[name].to(dtype)
    if dtype == torch.float64 and draw(st.booleans()):
        tensors[key] = tensors[key] + draw(st.sampled_from([0.0, 1e-300, 1e-9, 1e300]))
    save_file(tensors, file)


def change_a_shape(folder, draw):
    file, tensors, key = _tensors(folder, draw)
    value = tensors[key]
    shapes = [
        value.reshape(-1),
        value.unsqueeze(0),
        value[:0],
        value[:-1],
        value.repeat(2, *[1] * (value.dim() - 1)),
        value.reshape(*value.shape[::-1]),
        value.sum(),
    ]
    others = [shape for shape in shapes if shape.shape != value.shape]
    tensors[key] = others[draw(st.integers(0, len(others) - 1))].contiguous()
    save_file(tensors, file)


def change_a_name(folder, draw):
    file, tensors, key = _tensors(folder, draw)
    taken = tensors.pop(key) if draw(st.booleans()) else tensors[key].clone()
    if draw(st.booleans()):
        tensors[draw(st.text(TEXT, max_size=20)) + key[draw(st.integers(0, 3)) :]] = taken
    else:
        tensors["extra"] = torch.zeros(draw(st.integers(0, 3)))
    save_file(tensors, file)


def swap_two_tensors(folder, draw):
    file, tensors, key = _tensors(folder, draw)
    same = [name for name in sorted(tensors) if name != key and tensors[name].shape == tensors[key].shape]
    other = draw(st.sampled_from(same)) if same else key
    tensors[key], tensors[other] = tensors[other].clone(), tensors[key].clone()
    save_file(tensors, file)


def swap_two_checkpoints(folder, draw):
    first, second = draw(st.permutations(CHECKPOINTS))[:2]
    kept = (folder / first).read_bytes()
    if draw(st.booleans()):
        (folder / first).write_bytes((folder / second).read_bytes())
    (folder / second).write_bytes(kept)


def change_an_index(folder, draw):
    batches = np.load(folder / "batches.npy")
    row, column = draw(st.integers(0, 3)), draw(st.integers(0, 1))
    batches[row, column] = draw(st.integers(-2, 9) | st.sampled_from([-(2**31), 2**31 - 1]))
    np.save(folder / "batches.npy", batches)
    if draw(st.booleans()) and batches.min() >= 0 and batches.max() < 8:
        sign(folder)


def reorder_batches(folder, draw):
    """A batch's own order matters to its signature; under a new signature only to rounding, and to its augmentation."""
    batches = np.load(folder / "batches.npy")
    if draw(st.booleans()):
        batches = batches[:, ::-1]
    np.save(folder / "batches.npy", np.ascontiguousarray(batches[list(draw(st.permutations(range(4))))]))
    if draw(st.booleans()):
        sign(folder)


def change_a_signature(folder, draw):
    signatures = np.load(folder / "signatures.npy")
    signatures[draw(st.integers(0, 3)), draw(st.integers(0, 31))] ^= draw(st.integers(1, 255))
    np.save(folder / "signatures.npy", signatures)


def change_a_seed(folder, draw):
    seeds = np.load(folder / "augmentation.npy")
    seeds[draw(st.integers(0, 3))] = draw(st.integers(-(2**63), 2**63 - 1))
    np.save(folder / "augmentation.npy", seeds)


def change_a_point(folder, draw):
    points = load_file(folder / "points.safetensors")
    if draw(st.booleans()):
        points["labels"][draw(st.integers(0, 7))] = draw(st.integers(0, 9) | st.sampled_from([-1, 10, 2**62]))
    else:
        points["images"].view(-1)[draw(st.integers(0, 8 * 64 - 1))] ^= draw(st.integers(1, 255))
    save_file(points, folder / "points.safetensors")
    if draw(st.booleans()):
        sign(folder)


def change_the_points(folder, draw):
    points = load_file(folder / "points.safetensors")
    images, labels = points["images"], points["labels"]
    changed = [
        {"images": images[:-1], "labels": labels},
        {"images": images[:0], "labels": labels[:0]},
        {"images": images.float(), "labels": labels},
        {"images": images, "labels": labels.int()},
        {"images": images, "labels": labels[:, None]},
        {"images": images.view(8, 64), "labels": labels},
        {"images": images.repeat(1, 3, 1, 1), "labels": labels},
        {"images": images},
        {"images": images, "labels": labels, "x": labels.clone()},
        {"images": images.repeat(2, 1, 1, 1), "labels": labels.repeat(2)},
        {"images": images.repeat(99, 1, 1, 1), "labels": labels.repeat(99)},
    ]
    chosen = changed[draw(st.integers(0, len(changed) - 1))]
    save_file({name: value.contiguous() for name, value in chosen.items()}, folder / "points.safetensors")


def change_an_array(folder, draw):
    file = folder / draw(st.sampled_from(ARRAYS))
    values = np.load(file)
    how = draw(st.integers(0, 8))
    if how < 6:
        changed = [
            np.asfortranarray(values),
            values.astype(np.int64),
            values.astype(">i4"),
            values[:-1],
            values[None],
            values.astype([("a", values.dtype)]),
        ]
        np.save(file, changed[how])
    elif how == 6:
        with file.open("wb") as opened:
            np.lib.format.write_array(opened, values, version=(draw(st.sampled_from([2, 3])), 0))
    elif how == 7:
        np.save(file, values.astype(object), allow_pickle=True)
    else:
        raw = file.read_bytes()
        header = draw(st.sampled_from([b"{'descr': '<i4', 'shape': (10**15,), }", b"(" * 60_000, b"__import__('os')"]))
        file.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + raw[128:])


def change_a_header(folder, draw):
    file = folder / draw(st.sampled_from(["points.safetensors", *CHECKPOINTS]))
    raw = file.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    text, data = raw[8 : 8 + length].decode(), raw[8 + length :]
    header = json.loads(text)
    key = draw(st.sampled_from(sorted(set(header) - {"__metadata__"})))
    entry = header[key]
    how = draw(st.sampled_from(["offsets", "shape", "dtype", "twice", "metadata", "length", "order", "negative"]))
    if how == "offsets":
        entry["data_offsets"] = sorted([draw(st.integers(0, len(data))), draw(st.integers(0, 2 * len(data)))])
    elif how == "shape":
        entry["shape"] = draw(st.lists(st.integers(0, 2**64 - 1), max_size=3))
    elif how == "dtype":
        entry["dtype"] = draw(st.sampled_from(["F16", "BF16", "I32", "F64", "F4", "C64", "F8_E5M2", "X", ""]))
    elif how == "metadata":
        header["__metadata__"] = draw(st.dictionaries(st.text(TEXT, max_size=5), st.text(TEXT, max_size=5), max_size=3))
    elif how == "order":
        header = {name: header[name] for name in draw(st.permutations(sorted(header)))}
    elif how == "negative":
        entry["shape"] = [-1, *entry["shape"][1:]]
    text = json.dumps(header)
    if how == "twice":
        text = "{" + json.dumps(key) + ": " + json.dumps(entry) + ", " + text[1:]
    declared = draw(st.integers(0, 2**64 - 1)) if how == "length" else len(text.encode())
    file.write_bytes(struct.pack("<Q", declared) + text.encode() + data)


def change_the_task(folder, draw):
    manifest = json.loads((folder / "manifest.json").read_bytes())
    task = manifest["task"]
    name = draw(st.sampled_from(sorted(task)))
    names = ["cifar10", "cifar100", "imagenet10", "folder:/", "resnet20", "resnet50", "", "x" * 9999]
    kinds = {
        str: st.sampled_from(names),
        int: st.integers(-1, 9) | st.sampled_from([10**6, 10**12, 10**4000]),
        float: st.floats(0, 1, exclude_max=True) | st.sampled_from([1e-300, 1e308, 0.0]),
        bool: st.booleans(),
        list: st.lists(st.integers(-1, 10**6), max_size=4),
    }
    task[name] = draw(kinds[type(task[name])])
    reseal(folder, task=task)


def change_the_length(folder, draw):
    """Another T' or k; with `whole`, the arrays and checkpoints are cut to fit, which makes a shorter proof of W_2."""
    steps = draw(st.integers(1, 9) | st.sampled_from([10**8, 10**8 + 1]))
    interval = draw(st.just(2) | st.integers(1, 9))
    if draw(st.booleans()) and steps < 4:
        for name in ARRAYS:
            np.save(folder / name, np.load(folder / name)[:steps])
        (folder / CHECKPOINTS[2]).unlink()
    reseal(folder, steps=steps, checkpoint_interval=interval)


DUMB = [
    flip_a_byte,
    truncate,
    append,
    insert_or_cut,
    swap_two_files,
    remove_a_file,
    add_a_file,
    put_something_else,
    change_a_field,
    spoof_the_json,
    rewrite_the_json,
]
SMART = [
    set_a_value,
    negate_zeros,
    add_noise,
    change_a_type,
    change_a_shape,
    change_a_name,
    swap_two_tensors,
    swap_two_checkpoints,
    change_an_index,
    reorder_batches,
    change_a_signature,
    change_a_seed,
    change_a_point,
    change_the_points,
    change_an_array,
    change_a_header,
    change_the_task,
    change_the_length,
]
RESEALED = [truncate, append, insert_or_cut, flip_a_byte, swap_two_files, add_a_file, remove_a_file]  # in both families
SEALING = [change_the_task, change_the_length]  # by themselves
