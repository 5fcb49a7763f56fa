"""A server of its own for the tests, ended with them."""

import contextlib
import socket
import subprocess
import time
import urllib.request


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(command, environment, log, address, path="/"):
    """The address, once it answers at this path; the server is ended with the block."""
    with log.open("w") as opened:
        server = subprocess.Popen(command, env=environment, stdout=opened, stderr=opened)
    try:
        _wait_for(server, address + path, log)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for(server, url, log):
    for _ in range(600):
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{url} did not answer within a minute:\n{log.read_text()[-2000:]}")
