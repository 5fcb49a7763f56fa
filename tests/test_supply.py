"""The audit of what polkit is built on: each of its checks finds what it looks for."""

import importlib.metadata
import subprocess

import pytest
import supply
from packaging.requirements import Requirement


def test_whatever_polkit_imports_is_named_with_the_lowest_release_that_was_tested():
    for package in supply.PACKAGES:
        assert list(supply.undeclared(supply.ROOT / package, supply.declared("snark"))) == []
    assert all(supply.lowest(each) for each in supply.declared("test").values())


def test_the_lowest_release_is_the_bound_itself():
    assert supply.lowest(Requirement("numpy>=2.1,<3")) == "numpy==2.1"
    with pytest.raises(ValueError, match="must have one lower bound"):
        supply.lowest(Requirement("numpy"))


def test_an_import_that_nothing_names_is_found(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "a.py").write_text("import os\nimport numpy\nfrom scipy import stats\nfrom . import b\n")
    found = list(supply.undeclared(tmp_path / "package", {"numpy": Requirement("numpy>=2")}))
    assert found == ["package/a.py imports scipy, which pyproject.toml does not name"]


def test_a_file_that_was_altered_or_removed_is_found(tmp_path):
    info = tmp_path / "thing-1.0.dist-info"
    info.mkdir()
    classifier = "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\nClassifier: {classifier}\n")
    (tmp_path / "thing.py").write_bytes(b"x = 1\n")
    digest = "cWKXZGn4GPDEPxZqcZLSK78tSyWRAQmBVlkH9AMYhPQ"  # of something else
    (info / "RECORD").write_text(f"thing.py,sha256={digest},6\ngone.py,sha256={digest},6\n{info.name}/RECORD,,\n")
    thing = importlib.metadata.PathDistribution(info)
    assert list(supply.altered(thing)) == [
        "thing: thing.py is not the file that was installed",
        "thing: gone.py is missing",
    ]
    assert supply.COPYLEFT.search(supply.licence(thing))


def answering(monkeypatch, stdout="", stderr="", returncode=0):
    done = subprocess.CompletedProcess([], returncode, stdout, stderr)
    monkeypatch.setattr(supply, "pip", lambda *_: done)


def test_a_release_that_was_taken_back_is_found_and_silence_is_not_an_answer(monkeypatch):
    found = {"attrs": importlib.metadata.distribution("numpy")}
    warning = (
        "WARNING: The candidate selected for download or install is a yanked version: 'attrs' candidate "
        "(version 21.1.0 at https://example.invalid/attrs.whl)\nReason for being yanked: none"
    )
    answering(monkeypatch, stderr=warning)
    assert supply.yanked(found) == ["attrs 21.1.0 was yanked"]
    answering(monkeypatch)
    assert supply.yanked(found) == []
    answering(monkeypatch, returncode=1)
    assert supply.yanked(found) is None


def test_known_vulnerabilities_count_only_where_the_database_knew_the_package(monkeypatch):
    found = {"numpy": importlib.metadata.distribution("numpy")}
    answering(
        monkeypatch,
        '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1"}]}, '
        '{"name": "b", "skip_reason": "not found"}]}',
    )
    assert supply.vulnerable(found) == (["a 1: CVE-1"], 1)
    answering(monkeypatch, '{"dependencies": [{"name": "b", "skip_reason": "not found"}]}')
    assert supply.vulnerable(found) == ([], 0)
    answering(monkeypatch, "no such host", returncode=1)
    assert supply.vulnerable(found) == ([], 0)


def test_a_finding_is_an_exit_status(monkeypatch, capsys):
    answering(monkeypatch)
    monkeypatch.setattr(supply, "altered", lambda _: iter(()))
    assert supply.audit() == 0
    assert "known vulnerabilities (0 of" in capsys.readouterr().out
    monkeypatch.setattr(supply, "undeclared", lambda folder, _: iter([f"{folder.name}/x.py imports y"]))
    assert supply.audit() == 1
    assert capsys.readouterr().out.endswith("2 findings\n")
