"""Files that are there whole or not at all, and places where only one process works at a time."""

import glob
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

UNFINISHED = ".unfinished"


def write_whole(file: Path, data: bytes | memoryview, durable: bool = True) -> None:
    """Replaces a file at once: a reader sees the old bytes or the new, never a part, whenever the writer is killed.

    Each write has a name of its own until then: of two processes that shared one, the faster would move the other's
    half into place. durable: on the disk before it returns, for a loss of power. Raises OSError, with the file's name.
    """
    unfinished = file.with_name(f"{file.name}.{uuid.uuid4().hex[:12]}{UNFINISHED}")
    try:
        with unfinished.open("xb") as opened:
            opened.write(data)
            if durable:
                opened.flush()
                os.fsync(opened.fileno())
        os.replace(unfinished, file)
    except BaseException as error:
        if unfinished.exists():
            unfinished.unlink()
        if isinstance(error, OSError):  # the error of a full disk does not say which
            raise OSError(error.errno, error.strerror, str(file)) from error
        raise
    if durable:
        sync(file.parent)


def sweep(folder: Path) -> None:
    """Removes what killed writers have left in a folder where nobody writes now."""
    for left in folder.rglob(f"*{UNFINISHED}"):
        left.unlink()


def write_text_whole(file: Path, text: str) -> None:
    write_whole(file, text.encode())


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


def sync_all(folder: Path) -> None:
    """`sync` of everything in a folder. 442 checkpoints of `digits`: 0.2 s of a proof's 25 s; one by one, as they
    are written, 0.3 s here and the disk's own delay for each of them elsewhere."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def stands(place: Path) -> bool:
    """Whether something is at its place and its maker gone: then it can be read without a lock, even where nobody may
    write. A lock beside it is its maker's, who is about to be done, or was killed just before."""
    return place.exists() and not Path(f"{place}.lock").exists()


@contextmanager
def made_alone(place: Path, wait: bool = True) -> Iterator[None]:
    """Holds a place, so that two processes do not make something there at once; a process that dies lets go of it.

    What killed writers have left beside the place goes. wait: for another process to be done; otherwise
    BlockingIOError. Raises OSError if the folder cannot be written.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = Path(f"{place}.lock")
    try:
        with FileLock(lock, timeout=-1 if wait else 0):
            for left in place.parent.glob(f"{glob.escape(place.name)}.*{UNFINISHED}"):
                left.unlink()
            try:
                yield
            finally:
                # While it is held: whoever waits for it sees that it is gone, and makes another (filelock from 3.21).
                lock.unlink(missing_ok=True)
    except Timeout as error:
        raise BlockingIOError(f"another process is working at {place}: wait until it is done") from error
