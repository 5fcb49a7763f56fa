"""Cuts data/fashion from the whole of Fashion-MNIST: `python -m tests.fashion FOLDER`."""

import gzip
import struct
import sys
from pathlib import Path

COUNTS = {"train": 6400, "t10k": 2000}
ROOT = Path(__file__).parents[1]


def cut(whole: Path, out: Path) -> None:
    """The first images and labels of each split, in the format of the whole set, the same bytes on every day."""
    out.mkdir(parents=True, exist_ok=True)
    for split, count in COUNTS.items():
        for name, header, size in (
            ("images-idx3", struct.pack(">4i", 2051, count, 28, 28), 784),
            ("labels-idx1", struct.pack(">2i", 2049, count), 1),
        ):
            file = f"{split}-{name}-ubyte.gz"
            content = gzip.decompress((whole / file).read_bytes())
            kept = header + content[len(header) : len(header) + count * size]
            (out / file).write_bytes(gzip.compress(kept, mtime=0))


if __name__ == "__main__":
    cut(Path(sys.argv[1]), ROOT / "data" / "fashion")
