"""Folders of small pictures, and the debris that other programs leave in folders."""

import numpy as np
from PIL import Image

DEBRIS = (".DS_Store", "._0.png", "._00000000.safetensors", "Thumbs.db", "desktop.ini")
DEBRIS_FOLDERS = ("__MACOSX", ".ipynb_checkpoints", ".Trashes")


def litter(folder):
    """Leaves in a folder, and in those of its folders, what file managers, Jupyter and archives leave there."""
    for place in [folder, *(found for found in folder.rglob("*") if found.is_dir())]:
        for name in DEBRIS:
            (place / name).write_bytes(b"debris")
        for name in DEBRIS_FOLDERS:
            (place / name).mkdir()
            (place / name / "0-checkpoint.png").write_bytes(b"debris")


def draw_pictures(root, count=4, first=0):
    """Other small pictures for each `first`, in two classes."""
    for name in ("ant", "bee"):
        (root / "train" / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = np.random.default_rng([first, ord(name[0]), number]).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "train" / name / f"{number}.png")
