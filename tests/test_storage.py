"""Files that are whole, and places that one process holds."""

import os
import platform
import shutil
import sys
import tempfile
import time
from errno import EACCES, ENOLCK, ENOSPC, EROFS
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import pandas as pd
import pytest

import polkit as pk
from polkit.proof import storage
from polkit.proof.folder import record_path
from polkit.proof.storage import journal_path, made_alone, remembered, require_writable, write_whole
from polkit.prover import cached_proof


def test_a_write_that_fails_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(ENOSPC, "No space left on device")

    file = tmp_path / "note.json"
    write_whole(file, "old")
    monkeypatch.setattr("polkit.proof.storage.os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*note.json'"):
        write_whole(file, "new")
    assert [file.name for file in tmp_path.iterdir()] == ["note.json"]
    assert file.read_text() == "old"


def test_two_writers_of_one_file_do_not_share_a_temporary_name(tmp_path, monkeypatch):
    file, real, names = tmp_path / "note.json", os.replace, []

    def replace(source, target):
        names.append(Path(source).name)
        if len(names) == 1:
            write_whole(file, b"the other's", durable=False)
        real(source, target)

    monkeypatch.setattr("polkit.proof.storage.os.replace", replace)
    write_whole(file, b"mine", durable=False)
    assert len(set(names)) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["note.json"]
    assert file.read_text() == "mine"


def test_what_killed_writers_left_beside_a_place_goes_when_it_is_next_held(tmp_path):
    """And nothing of another place, such as a calibration that is written as `proof.json` in this moment."""
    others = {"proof2.x.unfinished", "proof.json.0123456789ab.unfinished"}
    for name in ("proof.record.json.0123456789ab.unfinished", "proof.0123456789ab.unfinished", *others):
        (tmp_path / name).touch()
    with made_alone(tmp_path / "proof"):
        assert {file.name for file in tmp_path.iterdir()} == others
        with (
            pytest.raises(BlockingIOError, match="another process is working at"),
            made_alone(tmp_path / "proof", wait=False),
        ):
            pass
    assert {file.name for file in tmp_path.iterdir()} == others


def test_a_place_is_one_place_whatever_its_path(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    with made_alone(tmp_path / "proof"):
        for same in (Path("proof"), tmp_path / "link" / "proof"):
            with pytest.raises(BlockingIOError), made_alone(same, wait=False):
                pass
        with made_alone(tmp_path / "proof2", wait=False):
            pass


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    def refused(**_):
        raise PermissionError(EACCES, "Permission denied")

    monkeypatch.setattr("polkit.proof.storage.tempfile.TemporaryFile", refused)
    with (
        pytest.raises(PermissionError, match="so that nothing can be written there: '.*/proof'"),
        made_alone(tmp_path / "proof"),
    ):
        pytest.fail("begun")


def test_who_waits_says_for_whom(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    place, begun = tmp_path / "proof", Event()

    def second():
        begun.set()
        with made_alone(place):
            pass

    with made_alone(place):
        waiting = Thread(target=second)
        waiting.start()
        assert begun.wait(5)
        time.sleep(0.1)
    waiting.join(5)
    assert not waiting.is_alive()
    whom = f"another process is working at {place} (process {os.getpid()} on {platform.node()})"
    assert capsys.readouterr().err == f"polkit: {whom}: waiting until it is done\n"


def refusing(error):
    def refused(*_, **__):
        raise error

    return refused


CANNOT_KEEP = {
    "a read-only folder": ("TemporaryDirectory", PermissionError(EACCES, "Permission denied")),
    "a file system without locks": ("FileLock.acquire", NotImplementedError("FileSystem does not support flock")),
    "a file system that is out of locks": ("FileLock.acquire", OSError(ENOLCK, "No locks available")),
}


@pytest.fixture(params=CANNOT_KEEP)
def unkept(request, tmp_path, monkeypatch):
    """A cache in which nothing can be kept, beside a folder where files can be written."""
    name, error = CANNOT_KEEP[request.param]
    monkeypatch.setenv("POLKIT_HOME", str(tmp_path / "home"))
    real, home = getattr(storage, name.split(".")[0]) if "." in name else tempfile.TemporaryDirectory, tmp_path / "home"

    if name == "TemporaryDirectory":

        def made(*arguments, dir=None, **named):
            if dir is not None and Path(dir).is_relative_to(home):
                raise error
            return real(*arguments, dir=dir, **named)

        monkeypatch.setattr("polkit.proof.storage.tempfile.TemporaryDirectory", made)
    else:
        acquire = real.acquire

        def locked(lock, *arguments, **named):
            if Path(lock.lock_file).is_relative_to(home):
                raise error
            return acquire(lock, *arguments, **named)

        monkeypatch.setattr(real, "acquire", locked)
    return home


def test_where_nothing_can_be_kept_results_are_computed_and_not_kept(unkept, small_proof, tmp_path, capsys):
    table = pd.DataFrame({"error": [1 / 3]})
    pd.testing.assert_frame_equal(remembered(lambda: table, "tests", table=2), table)
    final, told = small_proof.final_weights(), capsys.readouterr().err
    assert told.startswith(f"polkit: nothing can be kept in {unkept / 'tests'} (")
    assert "set POLKIT_HOME to a folder on a local disk that you can write to" in told
    for out in (None, tmp_path / "spoof"):
        spoof = pk.interpolation_only(final, small_proof.task, spoof_steps=4, out=out, progress=False)
        assert spoof.steps == 4
        assert not spoof.folder.is_relative_to(unkept)
    assert [file for file in unkept.rglob("*") if file.is_file()] == []


def test_what_stands_whole_in_a_cache_that_cannot_be_written_is_read(unkept, small_proof, monkeypatch):
    task = small_proof.task
    standing = unkept / "proofs" / cached_proof(task, 0, pk.Conditions(), pk.training_points(task)).name
    shutil.copytree(small_proof.folder, standing)
    shutil.copy(record_path(small_proof.folder), record_path(standing))
    journal_path(standing).touch()  # of a prover that was killed as it cleared up
    monkeypatch.setattr(Path, "unlink", refusing(OSError(EROFS, "Read-only file system")))
    monkeypatch.setattr("polkit.prover.train", refusing(AssertionError("trained again")))
    assert pk.prove(task, 0, progress=False).digest == small_proof.digest
    assert pk.prove(task, 0, out=standing, progress=False).digest == small_proof.digest


def test_a_lock_that_cannot_be_opened_is_named_with_advice(tmp_path, home, monkeypatch):
    with made_alone(tmp_path / "proof"):
        pass
    monkeypatch.setattr(storage.FileLock, "acquire", refusing(PermissionError(EACCES, "Permission denied")))
    with pytest.raises(PermissionError, match=f"remove it, or set POLKIT_HOME elsewhere: '{home}/locks/"):
        made_alone(tmp_path / "proof").__enter__()


@pytest.mark.parametrize("place", ["", "a file/x"])
def test_a_file_to_write_is_refused_before_anything_is_computed(tmp_path, place):
    (tmp_path / "a file").touch()
    with pytest.raises(OSError, match="is a folder: name a file to write|so that nothing can be written there"):
        require_writable(tmp_path / place, file=True)


def test_a_table_is_computed_once_and_read_with_every_bit(home):
    table, made = pd.DataFrame({"name": ["a", "b"], "error": [1 / 3, float("nan")], "step": [1, 2**53]}), []

    def compute():
        made.append(1)
        return table

    for _ in range(2):
        pd.testing.assert_frame_equal(remembered(compute, "tests", table=1), table, check_exact=True)
    assert made == [1]


@pytest.mark.parametrize(("system", "flag"), [("posix", 0), ("nt", 2)])
def test_a_file_is_opened_for_writing_where_only_a_writer_may_flush_it(tmp_path, monkeypatch, system, flag):
    """FlushFileBuffers, which os.fsync becomes on Windows, asks for write access."""
    calls = []
    stand_in = SimpleNamespace(
        name=system,
        O_RDONLY=0,
        O_RDWR=2,
        open=lambda path, flags: calls.append((path, flags)) or 7,
        fsync=calls.append,
        close=calls.append,
    )
    (tmp_path / "file").touch()
    monkeypatch.setattr(storage, "os", stand_in)
    storage.sync(tmp_path / "file")
    assert calls == [(tmp_path / "file", flag), 7, 7]
    storage.sync(tmp_path)
    assert len(calls) == (6 if system == "posix" else 3)
