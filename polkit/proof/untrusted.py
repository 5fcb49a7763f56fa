"""Reading what somebody else wrote: a plain file of bounded size, taken whole, in exactly the form it must have.

Nothing here follows a link, waits for a pipe, unpickles or evaluates anything, or allocates what a file only declares.
"""

import hashlib
import json
import math
import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, deserialize

HEADER_BYTES = 2**20  # of a safetensors file; a ResNet-50's checkpoint has 42 kB
ARRAY_HEADER_BYTES = 4096  # of an .npy file; ours have 128
BYTES_PER_LIST = 16  # or object, on average; a manifest has 100, and 16 MB of `[],` would take 5 s to read
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
DEEPEST = 100  # of lists in lists; a manifest has 5
SHOWN = 400  # characters of a message
DTYPES = {"F32": torch.float32, "F64": torch.float64, "U8": torch.uint8, "I32": torch.int32, "I64": torch.int64}


class ProofError(ValueError):
    """A proof that cannot be used, or a file of it that is not what it must be; the text names the file."""

    def __init__(self, text: str):
        super().__init__(shown(text))


def shown(text: str) -> str:
    """Text from elsewhere as one line that cannot paint a terminal: what is not printable is escaped, the long cut."""
    if len(text) > SHOWN:
        text = f"{text[: SHOWN // 2]} … {text[-SHOWN // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def open_plain(file: Path, name: str, limit: int) -> BinaryIO:
    """A file opened for reading, if it is a plain one of at most `limit` bytes; ProofError otherwise.

    `lstat` first, since to open a pipe is to wait and to open a device may be to act; then the same of what was
    opened, which another process may have put there since.
    """
    never_wait = sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    try:
        plain = stat.S_ISREG(os.lstat(file).st_mode)
        opened = os.fdopen(os.open(file, os.O_RDONLY | never_wait), "rb") if plain else None
    except FileNotFoundError as error:
        raise ProofError(f"{name} is missing, or not a file") from error
    except OSError as error:
        raise ProofError(f"{name} cannot be read ({error.strerror})") from error
    if opened is None:
        raise ProofError(f"{name} is missing, or not a file")
    found = os.fstat(opened.fileno())
    if stat.S_ISREG(found.st_mode) and found.st_size <= limit:
        return opened
    opened.close()
    if not stat.S_ISREG(found.st_mode):
        raise ProofError(f"{name} is missing, or not a file")
    raise ProofError(f"{name} has {found.st_size} bytes, it may have {limit} at most")


def read_plain(file: Path, name: str, limit: int) -> bytes:
    """The bytes of a plain file of at most `limit` bytes."""
    with open_plain(file, name, limit) as opened:
        declared = os.fstat(opened.fileno()).st_size
        try:
            raw = opened.read(declared + 1)
        except OSError as error:
            raise ProofError(f"{name} cannot be read ({error.strerror})") from error
    if len(raw) != declared:
        raise ProofError(f"{name} changed while it was being read")
    return raw


def bytes_digest(raw: bytes) -> dict:
    """Size and SHA-256, as a manifest names them."""
    return {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}


def read_json(file: str | Path, limit: int) -> Any:
    """The JSON of a file that the caller names; the path may be a link, unlike one inside a proof."""
    return parse_json(read_plain(Path(os.path.realpath(file)), Path(file).name, limit), Path(file).name)


def parse_facts(
    raw: bytes, name: str, fields: Mapping[str, type | tuple[type, ...]], kind: str, version: int
) -> dict[str, Any]:
    """ProofError unless `parse_json` finds an object of exactly these fields, each of its type or one of several, and
    its `format` and `format_version` are this kind and version."""
    facts = parse_json(raw, name)
    if not isinstance(facts, dict) or set(facts) != set(fields):
        raise ProofError(f"{name} must have the fields {', '.join(fields)} and no others")
    for field, allowed in fields.items():
        types = allowed if isinstance(allowed, tuple) else (allowed,)
        if type(facts[field]) not in types:
            raise ProofError(f"{name}: {field} must be of type {' or '.join(each.__name__ for each in types)}")
    if (facts["format"], facts["format_version"]) != (kind, version):
        raise ProofError(f"{name}: this is not {kind} version {version}")
    return facts


def parse_json(raw: bytes, name: str) -> Any:
    """ProofError unless this is UTF-8 JSON in which no object names a key twice and every number is a finite one."""

    def once(pairs: list[tuple[str, Any]]) -> dict:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise ValueError(f"it names {twice!r} twice")
        return found

    def refused(word: str) -> None:
        raise ValueError(f"{word} is no JSON number")

    def finite(text: str) -> float:
        return float(text) if math.isfinite(float(text)) else refused(text)

    try:
        text = raw.decode()
        if text.count("[") + text.count("{") > 10_000 + len(text) // BYTES_PER_LIST:
            raise ValueError("it is made of little but lists and objects")
        if _depth(raw) > DEEPEST:  # Python 3.11's parser gives up at some 1,000, that of 3.12 goes on
            raise ValueError(f"it is nested more than {DEEPEST} deep")
        values = json.loads(text, object_pairs_hook=once, parse_constant=refused, parse_float=finite)
        if "\\u" in text:
            json.dumps(values, ensure_ascii=False).encode()  # half of a surrogate pair, which no terminal can show
    except ValueError as error:
        raise ProofError(f"{name} is not JSON ({error})") from error
    return values


def _depth(raw: bytes) -> int:
    """How many brackets are open at once, those in texts included."""
    brackets = np.frombuffer(raw.translate(None, delete=NO_BRACKETS), np.uint8)
    opened = (brackets == ord("[")) | (brackets == ord("{"))
    return int(np.cumsum(np.where(opened, 1, -1), dtype=np.int32).max(initial=0))


def parse_array(raw: bytes, name: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    """An .npy file of exactly this type and shape. Its header is compared with the one it must have, not evaluated."""
    begin = 10 + int.from_bytes(raw[8:10], "little")
    header = raw[10:begin].rstrip(b" \n")
    wanted = repr({"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}).removesuffix("}") + ", }"
    if raw[:8] != b"\x93NUMPY\x01\x00" or len(raw) < begin or not header.startswith(b"{'descr': "):
        raise ProofError(f"{name} is not a NumPy array file of version 1.0")
    if header != wanted.encode():
        raise ProofError(f"{name} holds {header.decode('latin-1')}, it must hold {wanted}")
    values = np.frombuffer(raw, np.uint8, offset=begin)
    if values.size != np.dtype(dtype).itemsize * math.prod(shape):
        raise ProofError(f"{name} holds {values.size} bytes of data, {np.dtype(dtype)} {shape} are others")
    return values.copy().view(dtype).reshape(shape)


def parse_tensors(
    raw: bytes, name: str, wanted: Mapping[str, tuple[Iterable[torch.dtype], tuple | None]], *, others: bool = False
) -> dict[str, torch.Tensor]:
    """The named tensors of a safetensors file, each of one of its types and of its shape (None: any).

    others: whether the file may hold more than these. ProofError names the file and the tensor.
    """
    header = int.from_bytes(raw[:8], "little")
    if header > HEADER_BYTES:
        raise ProofError(f"{name} is not a safetensors file (its header claims {header} bytes, {HEADER_BYTES} at most)")
    try:
        found = _stored(raw[: 8 + header], len(raw))
    except (SafetensorError, ValueError) as error:
        raise ProofError(f"{name} is not a safetensors file ({error})") from error
    odd = wanted.keys() - found.keys() if others else wanted.keys() ^ found.keys()
    if odd:
        raise ProofError(f"{name} lacks or adds the tensor {min(odd)!r}")
    tensors, body = {}, memoryview(raw)[8 + header :]
    for key, (dtypes, shape) in wanted.items():
        stored = found[key]
        dtype = DTYPES.get(stored.dtype)
        if dtype not in dtypes:
            named = " or ".join(str(each).removeprefix("torch.") for each in dtypes)
            raise ProofError(f"{name}: {key} is of type {stored.dtype}, it must be {named}")
        if shape is not None and stored.shape != tuple(shape):
            raise ProofError(f"{name}: {key} has shape {stored.shape}, not {tuple(shape)}")
        if stored.begin == stored.end:
            raise ProofError(f"{name}: {key} is empty, of shape {stored.shape}")
        # A copy of its own: what is read may be written to, and lies where its type wants it whatever the file says.
        values = torch.frombuffer(bytearray(body[stored.begin : stored.end]), dtype=dtype)
        # Two in three tensors are vectors already, and a view takes longer than the rest of this loop.
        tensors[key] = values if len(stored.shape) == 1 else values.view(stored.shape)
    return tensors


class Stored(NamedTuple):
    """A tensor of a safetensors file: its bytes begin and end there behind the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@lru_cache(maxsize=8)  # all checkpoints of a proof begin alike, and the library takes 0.13 ms for one of `digits`
def _stored(head: bytes, size: int) -> Mapping[str, Stored]:
    """The tensors of a safetensors file of `size` bytes that begins with `head`; the library judges whether it is one.

    It takes the last of two tensors of one name, and a list in place of an object; this raises ProofError, as it does
    for a header that `parse_json` refuses.
    """
    found = dict(deserialize(head + bytes(size - len(head))))
    places = parse_json(head[8:], "its header")
    odd = [key for key in found if not isinstance(places[key], dict)]
    if odd:
        raise ProofError(f"its header has no object for {odd[0]!r}")
    return MappingProxyType(
        {key: Stored(each["dtype"], tuple(each["shape"]), *places[key]["data_offsets"]) for key, each in found.items()}
    )
