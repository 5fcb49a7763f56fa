"""Files that are there whole or not at all, places in the cache, and places where one process works at a time."""

import atexit
import glob
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from polkit.training import polkit_home

UNFINISHED = ".unfinished"
FILES = ("checkpoints", "batches", "signatures", "augmentation", "points", "rounding", "manifest")  # as they begin
FORMAT_VERSION = 1  # of a proof; another one makes nothing of what the cache holds


def write_whole(file: Path, data: bytes | memoryview | str, durable: bool = True) -> None:
    """Replaces a file at once: a reader sees the old bytes or the new, never a part, whenever the writer is killed.

    durable: whether it is on the disk before this returns, for a loss of power
    """
    # A name of its own: of two writers that shared one, the faster would move the other's half into place.
    unfinished = file.with_name(f"{file.name}.{uuid.uuid4().hex[:12]}{UNFINISHED}")
    try:
        with unfinished.open("xb") as opened:
            opened.write(data.encode() if isinstance(data, str) else data)
            if durable:
                opened.flush()
                os.fsync(opened.fileno())
        os.replace(unfinished, file)
    except OSError as error:  # that of a full disk does not say which file
        raise OSError(error.errno, error.strerror, str(file)) from error
    finally:
        unfinished.unlink(missing_ok=True)
    if durable:
        sync(file.parent)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    posix = os.name == "posix"
    if path.is_dir() and not posix:
        return  # elsewhere a folder cannot be opened
    opened = os.open(path, os.O_RDONLY if posix else os.O_RDWR)  # Windows lets only a writer flush
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def require_writable(place: Path, file: bool = False) -> None:
    """Raises OSError if no folder, or no file, can be written at a place; asked before anything is computed for it."""
    if file and place.is_dir():
        raise IsADirectoryError(f"{place} is a folder: name a file to write")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place.parent).close()
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}, so that nothing can be written there", str(place)) from error


def kept_in(kind: str) -> Path:
    """A folder of the cache, or a temporary one where the cache can keep nothing."""
    return _usable(polkit_home() / kind)


@cache
def _usable(folder: Path) -> Path:
    """A folder in which files can be written and locked: this one, or one that goes when this process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as probe, FileLock(Path(probe, "lock")):
            return folder
    except (OSError, NotImplementedError) as error:
        advice = "set POLKIT_HOME to a folder on a local disk that you can write to"
        print(f"polkit: nothing can be kept in {folder} ({error}): {advice}", file=sys.stderr)
        scratch = tempfile.mkdtemp(prefix="polkit-")
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        return Path(scratch)


@contextmanager
def made_alone(place: Path, wait: bool = True) -> Iterator[None]:
    """Holds a place, so that two processes do not make something there at once; a process that dies lets go of it.

    Clears what killed writers have left beside it. Raises OSError if the folder cannot be written.
    wait: for another process, after a line on the terminal that says for which; otherwise BlockingIOError is raised
    """
    require_writable(place)
    lock = kept_in("locks") / hashlib.sha256(os.path.realpath(place).encode()).hexdigest()
    lock.parent.mkdir(parents=True, exist_ok=True)
    held, holder = FileLock(lock, timeout=0), lock.with_suffix(".holder")
    try:
        held.acquire()
    except Timeout as error:
        whom = f"another process is working at {place} ({holder.read_text() if holder.exists() else 'just begun'})"
        if not wait:
            raise BlockingIOError(f"{whom}: wait until it is done") from error
        if sys.stderr.isatty():  # a notebook would keep the line among its outputs
            print(f"polkit: {whom}: waiting until it is done", file=sys.stderr)
        held.acquire(timeout=-1)
    except OSError as error:  # of a lock that came with somebody else's cache, say
        raise OSError(error.errno, f"{error.strerror}: remove it, or set POLKIT_HOME elsewhere", str(lock)) from error
    try:
        write_whole(holder, f"process {os.getpid()} on {platform.node()}".encode(), durable=False)
        for own in (place, beside(place, ".record.json"), beside(place, ".progress.jsonl")):
            for left in own.parent.glob(f"{glob.escape(own.name)}.{'[0-9a-f]' * 12}{UNFINISHED}"):
                left.unlink()
        yield
    finally:
        held.release()


@cache  # `version` looks through every folder of sys.path
def versions() -> dict[str, str]:
    return {name: version(name) for name in ("polkit", "torch", "numpy")}


def cache_folder(kind: str, suffix: str = "", **facts) -> Path:
    """Where the result of these facts is kept; other facts, or another torch, give another place. suffix: of a file"""
    text = json.dumps({"format": FORMAT_VERSION, "versions": versions(), **facts}, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:24] + suffix
    place = polkit_home() / kind / name
    return place if place.exists() else kept_in(kind) / name


def remembered(compute: Callable[[], pd.DataFrame], kind: str, **facts) -> pd.DataFrame:
    """The table that `compute` makes, kept in the cache under the facts that decide it."""
    file = cache_folder(kind, ".json", **facts)
    if not file.exists():
        with made_alone(file):
            if not file.exists():  # another process may have made it meanwhile
                table = compute()
                rows = {"data": table.to_numpy(dtype=object).tolist(), "columns": table.columns.tolist()}
                write_whole(file, json.dumps(rows).encode())
    return pd.DataFrame(**json.loads(file.read_text()))


def beside(folder: Path, ending: str) -> Path:
    """The folder's name with an ending, beside it, even if the folder is given as `.` or `..`."""
    folder = Path(os.path.abspath(folder)) if folder.name in ("", "..") else folder
    return folder.with_name(folder.name + ending)


def partial_path(folder: Path) -> Path:
    """Where a proof is put together, beside the place where it will stand."""
    return beside(folder, ".partial")


def journal_path(folder: Path) -> Path:
    """Where the prover notes what the unfinished proof beside it has come to."""
    return beside(folder, ".progress.jsonl")


def fresh_folder(folder: Path) -> Path:
    """An empty folder to put a proof together in. FileExistsError rather than remove what can go on, or is no proof."""
    partial = partial_path(folder)
    if partial.exists():
        if journal_path(folder).exists() or not all(name.startswith(FILES) for name in os.listdir(partial)):
            raise FileExistsError(f"{partial} holds an unfinished proof or other files: choose another folder")
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    return partial
