"""The command line's process: whether this is one, and output that no encoding and no reader who leaves can stop."""

import io
import os
import shutil
import signal
import sys
import textwrap


def _is_command() -> bool:
    """Whether this process was started as `polkit`, `python -m polkit` or `polkit-challenge`, and is no worker."""
    # While Python looks for a module, its name stands in the original arguments alone.
    started = [name if name != "-m" else sys.orig_argv[-len(sys.argv)].removeprefix("-m") for name in sys.argv[:1]]
    named = [os.path.basename(name) for name in started]
    return named in (["polkit"], ["polkit-challenge"]) and "multiprocessing" not in sys.modules


# Asked as polkit is imported. Whoever starts a command without Ctrl-C, as `nohup` does, keeps it so.
IS_COMMAND = _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Outlet(io.FileIO):
    """Standard output or error: it goes on into nothing when its reader, such as `| head`, has seen enough."""

    def write(self, data: memoryview) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)


class Screen(io.TextIOWrapper):
    """A terminal: a line too long for it goes on below its own beginning, and no word is broken."""

    def write(self, text: str) -> int:
        super().write("\n".join(map(self._fitted, text.split("\n"))))
        return len(text)

    def _fitted(self, line: str) -> str:
        width, told = shutil.get_terminal_size().columns, line.lstrip(" ")
        if len(line) <= width or "\r" in line or told.startswith(('"', "{")):  # a progress bar, or JSON
            return line
        indent = " " * (len(line) - len(told) + 2)
        broken = {"break_long_words": False, "break_on_hyphens": False}
        return textwrap.fill(line, width, subsequent_indent=indent, **broken)


def unhindered(stream: io.TextIOWrapper | None) -> io.TextIOWrapper:
    """A standard stream as an Outlet that escapes what its encoding lacks; another (a test's, Jupyter's) as it is."""
    if stream is None:  # whoever started this process has closed it
        return open(os.devnull, "w", encoding="utf-8")
    if stream not in (sys.__stdout__, sys.__stderr__):
        return stream
    stream.flush()
    raw, kept = Outlet(stream.fileno(), "w", closefd=False), {"line_buffering": stream.line_buffering}
    kept["write_through"] = stream.write_through  # as where PYTHONUNBUFFERED is set: no buffer may hold it back
    kind, buffer = Screen if raw.isatty() else io.TextIOWrapper, raw if stream.write_through else io.BufferedWriter(raw)
    return kind(buffer, stream.encoding, "backslashreplace", **kept)
