"""`make app`: the lecture's panels as a web page of this machine, one kernel for each viewer."""

import argparse
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ADDRESS, PORT = "127.0.0.1", 8866
WIDGETS = ["@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8", "anywidget"]
NO_FILE = "(?!)."  # a pattern that no path matches: traitlets has no other way to say an empty list
ORPHAN_SECONDS = 600  # a kernel whose page was closed without saying so is ended after this


def command(notebook: Path, port: int) -> list[str]:
    """The call of Voila. What it serves is the page, its scripts and the kernel's messages about widgets: no file of
    the checkout, no template that an address names, nothing to other machines."""
    return [
        sys.executable,
        "-m",
        "voila",
        str(notebook),
        "--no-browser",
        f"--Voila.ip={ADDRESS}",
        f"--Voila.port={port}",
        "--Voila.port_retries=0",
        "--VoilaConfiguration.template=polkit",
        "--VoilaConfiguration.strip_sources=True",
        "--VoilaConfiguration.allow_template_override=NO",
        "--VoilaConfiguration.allow_theme_override=NO",
        f"--VoilaConfiguration.file_allowlist={NO_FILE}",
        "--VoilaConfiguration.show_tracebacks=False",
        *(f"--VoilaConfiguration.extension_allowlist={name}" for name in WIDGETS),
        f"--MappingKernelManager.cull_idle_timeout={ORPHAN_SECONDS}",
    ]


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The given variables, with the folder of our template where Voila looks for templates."""
    places = [str(HERE), *filter(None, [given.get("JUPYTER_PATH")])]
    return {**given, "JUPYTER_PATH": os.pathsep.join(places)}


def require_free(port: int) -> None:
    """Ends this program with one sentence, instead of Voila's page of them, if its address cannot be had."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Voila does: what just ended does not count
        try:
            probe.bind((ADDRESS, port))
        except (OSError, OverflowError) as error:
            sys.exit(f"make app: port {port} cannot be had ({error}): take another, as in make app APP='--port 8900'")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="make app", description=__doc__)
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("notebook", type=Path, nargs="?", default=HERE / "lecture.ipynb")
    given = parser.parse_args(arguments)
    require_free(given.port)
    print(f"Open http://{ADDRESS}:{given.port} in a browser; Ctrl-C here ends it.", flush=True)
    # In place of this process, so that whoever ends it ends Voila and its kernels.
    os.execve(sys.executable, command(given.notebook, given.port), environment(os.environ))


if __name__ == "__main__":
    main()
