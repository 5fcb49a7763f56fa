"""How `make app` starts, without starting it."""

import re
import socket

import pytest
from serve import ADDRESS, WIDGETS, command, main


@pytest.mark.parametrize("port", ["used", 70000])
def test_a_port_that_cannot_be_had_is_one_sentence_before_anything_starts(port, monkeypatch, capsys):
    monkeypatch.setattr("serve.os.execve", lambda *_: pytest.fail("started"))
    with socket.socket() as other:
        other.bind((ADDRESS, 0))
        other.listen()
        port = other.getsockname()[1] if port == "used" else port
        with pytest.raises(SystemExit) as ended:
            main(["--port", str(port)])
    assert re.fullmatch(rf"make app: port {port} cannot be had \(.+\): take another, .+", ended.value.code)
    assert capsys.readouterr() == ("", "")


def test_what_voila_is_told_is_no_deprecated_spelling(tmp_path):
    """Warnings are errors in the tests."""
    app = pytest.importorskip("voila.app")
    started = app.Voila()
    started.parse_command_line(command(tmp_path / "page.ipynb", 8866)[3:])
    settings = app.VoilaConfiguration(parent=started)
    assert settings.extension_allowlist == WIDGETS
    files = ("page.ipynb", "a.png", "voila/files/x", "")
    assert not any(re.fullmatch(pattern, path) for pattern in settings.file_allowlist for path in files)
    assert len(settings.file_allowlist) == 1
