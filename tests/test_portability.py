"""What can be said of Windows from here: the package names nothing at import, and nothing unguarded, that it lacks."""

import ast
from pathlib import Path

import pytest

import polkit

FOR_LINUX = "polkit.book.kernels"
MODULES = sorted(Path(polkit.__file__).parent.rglob("*.py"))
# By Python's own documentation: modules, and names of `os` and `signal`, with "Availability: Unix".
UNIX_MODULES = {"curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
UNIX_NAMES = {
    "os": {
        "chown",
        "fchmod",
        "fork",
        "forkpty",
        "getloadavg",
        "getpgid",
        "getpriority",
        "getuid",
        "geteuid",
        "killpg",
        "mkfifo",
        "mknod",
        "nice",
        "pread",
        "pwrite",
        "sched_getaffinity",
        "sched_setaffinity",
        "setpgid",
        "setsid",
        "statvfs",
        "sync",
        "sysconf",
        "uname",
        "wait",
        "waitid",
        "O_NOFOLLOW",
        "O_NONBLOCK",
        "O_CLOEXEC",
        "O_DIRECTORY",
        "O_SYNC",
    },
    "signal": {
        "SIGALRM",
        "SIGHUP",
        "SIGKILL",
        "SIGQUIT",
        "SIGSTOP",
        "SIGUSR1",
        "SIGUSR2",
        "alarm",
        "pause",
        "pthread_kill",
        "setitimer",
        "sigwait",
    },
}


def unix_only(source):
    """What a module names that Windows does not have."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.partition(".")[0] in UNIX_MODULES]
        elif isinstance(node, ast.ImportFrom):
            names = UNIX_NAMES.get(node.module, set())
            found += [node.module] if node.module in UNIX_MODULES else []
            found += [f"{node.module}.{alias.name}" for alias in node.names if alias.name in names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            lacking = UNIX_NAMES.get(node.value.id, set())
            found += [f"{node.value.id}.{node.attr}"] if node.attr in lacking else []
    return found


def test_what_windows_lacks_is_found():
    source = "import fcntl, os\nfrom signal import SIGKILL\nos.mkfifo('x')\ngetattr(os, 'O_NONBLOCK')\nos.remove('a')"
    assert unix_only(source) == ["fcntl", "signal.SIGKILL", "os.mkfifo"]


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.stem)
def test_a_module_names_nothing_that_only_unix_has(file):
    """Nor imports at once the one that is for Linux alone, which `run_book` asks for there."""
    source = file.read_text(encoding="utf-8")
    imported = [node.module for node in ast.parse(source).body if isinstance(node, ast.ImportFrom)]
    assert FOR_LINUX not in imported
    assert unix_only(source) == (["os.setsid", "signal.SIGKILL"] if file.stem == FOR_LINUX.rpartition(".")[2] else [])
