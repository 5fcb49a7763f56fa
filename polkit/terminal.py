"""Standard output and error of the command line, which neither an encoding nor a reader who leaves can stop."""

import io
import sys


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
