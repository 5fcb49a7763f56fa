"""The command line's process: whether this is one, and output that no encoding and no reader who leaves can stop."""

import io
import os
import sys


def is_command() -> bool:
    """Whether this process was started as `polkit` or `python -m polkit`, and is none of its workers."""
    # While Python looks for a module, its name stands in the original arguments alone.
    started = [name if name != "-m" else sys.orig_argv[-len(sys.argv)].removeprefix("-m") for name in sys.argv[:1]]
    return [os.path.basename(name) for name in started] == ["polkit"] and "multiprocessing" not in sys.modules


class Outlet(io.FileIO):
    """Standard output or error: it goes on into nothing when its reader, such as `| head`, has seen enough."""

    def write(self, data: memoryview) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)


def unhindered(stream: io.TextIOWrapper | None) -> io.TextIOWrapper | None:
    """A standard stream as an Outlet that escapes what its encoding lacks; another (a test's, Jupyter's) as it is."""
    if stream is None or stream not in (sys.__stdout__, sys.__stderr__):
        return stream
    stream.flush()
    raw, kept = Outlet(stream.fileno(), "w", closefd=False), {"line_buffering": stream.line_buffering}
    kept["write_through"] = stream.write_through
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, "backslashreplace", **kept)
