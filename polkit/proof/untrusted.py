"""Reading what somebody else wrote: a plain file of bounded size, taken whole, in exactly the form it must have.

Nothing here follows a link, waits for a pipe, unpickles or evaluates anything, or allocates what a file only declares.
"""

import hashlib
import json
import math
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, deserialize

HEADER_BYTES = 2**20  # of a safetensors file; a ResNet-50's checkpoint has 42 kB
ARRAY_HEADER_BYTES = 4096  # of an .npy file; ours have 128
BYTES_PER_LIST = 16  # or object, on average, since each takes long to read; a manifest has 100
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


@contextmanager
def open_plain(file: Path, name: str, limit: int) -> Iterator[BinaryIO]:
    """A file opened for reading, if it is a plain one of at most `limit` bytes; ProofError otherwise."""
    # `lstat`, since to open a pipe waits and to open a device may act; `fstat`, since the file may be another by then.
    never_wait = sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    missing = f"{name} is missing, or not a file"
    try:
        if not stat.S_ISREG(os.lstat(file).st_mode):
            raise ProofError(missing)
        with os.fdopen(os.open(file, os.O_RDONLY | never_wait), "rb") as opened:
            found = os.fstat(opened.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ProofError(missing)
            if found.st_size > limit:
                raise ProofError(f"{name} has {found.st_size} bytes, it may have {limit} at most")
            yield opened
    except FileNotFoundError as error:
        raise ProofError(missing) from error
    except OSError as error:
        raise ProofError(f"{name} cannot be read ({error.strerror})") from error


def read_plain(file: Path, name: str, limit: int) -> bytes:
    """The bytes of a plain file of at most `limit` bytes."""
    with open_plain(file, name, limit) as opened:
        declared = os.fstat(opened.fileno()).st_size
        raw = opened.read(declared + 1)
    if len(raw) != declared:
        raise ProofError(f"{name} changed while it was being read")
    return raw


def bytes_digest(raw: bytes) -> dict:
    """Size and SHA-256, as a manifest names them."""
    return {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}


def read_json(file: str | Path, limit: int) -> Any:
    """The JSON of a file that the caller names; the path may be a link, unlike one inside a proof."""
    return parse_json(read_plain(Path(os.path.realpath(file)), Path(file).name, limit), Path(file).name)


def parse_facts(raw: bytes, name: str, fields: Mapping[str, type | tuple], kind: str, version: int) -> dict[str, Any]:
    """The object that `parse_json` finds, of exactly these fields with their types, of this format and version."""
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
    try:
        text = raw.decode()
        if text.count("[") + text.count("{") > 10_000 + len(text) // BYTES_PER_LIST:
            raise ValueError("it is made of little but lists and objects")
        if _depth(raw) > DEEPEST:  # Python 3.11's parser gives up at some 1,000, that of 3.12 goes on
            raise ValueError(f"it is nested more than {DEEPEST} deep")
        values = json.loads(text, object_pairs_hook=_named_once, parse_constant=_finite, parse_float=_finite)
        if "\\u" in text:
            json.dumps(values, ensure_ascii=False).encode()  # half of a surrogate pair, which no terminal can show
    except ValueError as error:
        raise ProofError(f"{name} is not JSON ({error})") from error
    return values


def _named_once(pairs: list[tuple[str, Any]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"it names {twice!r} twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no JSON number")
    return number


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
    """Tensors of a safetensors file, each with memory of its own. Raises ProofError, which names file and tensor.

    wanted: name of a tensor -> the types that it may have, and its shape (None: any)
    others: whether the file may hold more than these
    """
    begin = 8 + int.from_bytes(raw[:8], "little")
    if begin > 8 + HEADER_BYTES:
        claimed = f"its header claims {begin - 8} bytes, {HEADER_BYTES} at most"
        raise ProofError(f"{name} is not a safetensors file ({claimed})")
    try:
        found = dict(deserialize(raw))
        _check_header(raw[8:begin])
    except (SafetensorError, ValueError) as error:
        raise ProofError(f"{name} is not a safetensors file ({error})") from error
    odd = wanted.keys() - found.keys() if others else wanted.keys() ^ found.keys()
    if odd:
        raise ProofError(f"{name} lacks or adds the tensor {min(odd)!r}")
    return {key: _tensor(found[key], f"{name}: {key}", *kinds) for key, kinds in wanted.items()}


@lru_cache(maxsize=8)  # the headers of all checkpoints of a proof are alike
def _check_header(header: bytes) -> None:
    """Raises ProofError for what the library takes: the last of two tensors of one name, a list for an object."""
    for key, place in parse_json(header, "its header").items():
        if not isinstance(place, dict):
            raise ProofError(f"its header has no object for {key!r}")


def _tensor(stored: dict, name: str, dtypes: Iterable[torch.dtype], shape: tuple | None) -> torch.Tensor:
    """A tensor that the library has read, if it is of one of these types, of this shape (None: any) and not empty."""
    dtype, found = DTYPES.get(stored["dtype"]), tuple(stored["shape"])
    if dtype not in dtypes:
        named = " or ".join(str(each).removeprefix("torch.") for each in dtypes)
        raise ProofError(f"{name} is of type {stored['dtype']}, it must be {named}")
    if shape is not None and found != tuple(shape):
        raise ProofError(f"{name} has shape {found}, not {tuple(shape)}")
    if not stored["data"]:
        raise ProofError(f"{name} is empty, of shape {found}")
    return torch.frombuffer(stored["data"], dtype=dtype).view(found)
