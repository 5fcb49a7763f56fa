"""Files that are whole, and places that one process holds."""

import os
from errno import EACCES, ENOSPC
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from polkit.proof import storage
from polkit.proof.storage import made_alone, remembered, write_text_whole, write_whole


def test_a_write_that_fails_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(ENOSPC, "No space left on device")

    file = tmp_path / "note.json"
    write_text_whole(file, "old")
    monkeypatch.setattr("polkit.proof.storage.os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*note.json'"):
        write_text_whole(file, "new")
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
    for name in ("proof.record.json.0123456789ab.unfinished", "proof.0123456789ab.unfinished", "proof2.x.unfinished"):
        (tmp_path / name).touch()
    with made_alone(tmp_path / "proof"):
        assert {file.name for file in tmp_path.iterdir()} == {"proof2.x.unfinished"}
        with (
            pytest.raises(BlockingIOError, match="another process is working at"),
            made_alone(tmp_path / "proof", wait=False),
        ):
            pass
    assert {file.name for file in tmp_path.iterdir()} == {"proof2.x.unfinished"}


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
    with pytest.raises(PermissionError), made_alone(tmp_path / "proof"):
        pytest.fail("begun")


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
