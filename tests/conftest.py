"""A task small enough to prove in a second, with its honest proof and calibration, made once a session."""

import fcntl
import os
import re
import shutil
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

import polkit as pk
from polkit.book.chapters import fast_kernels
from polkit.defences import set_standards
from tests.pictures import draw_pictures


def pytest_configure(config):
    """No test reads or writes the user's own cache, nor does a kernel that runs a chapter.

    $POLKIT_TEST_HOME keeps the tests' cache from one run to the next; otherwise it starts empty. The workers of one run
    share it, so that a browser's test finds what a chapter's made.
    """
    torch.set_num_threads(1)  # as `applied` does; more wait for each other where tests share the cores
    if hasattr(config, "workerinput"):  # one of the workers of --numprocesses: its parent has set the environment
        return
    kept, before = os.environ.get("POLKIT_TEST_HOME"), os.environ.get("POLKIT_HOME")
    os.environ["POLKIT_HOME"] = kept or tempfile.mkdtemp(prefix="polkit-tests-")

    def clean_up():
        folder = os.environ.pop("POLKIT_HOME")
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
        if before is not None:
            os.environ["POLKIT_HOME"] = before

    config.add_cleanup(clean_up)


# Chapters 2 and 3 make the proof and the δ that all later chapters read: until these are there, the other worker takes
# files that need neither.
FIRST = ("02_proof_creation", "03_verification", "01_primer", "test_batch", "test_fuzz", "test_cli", "test_claims")
LONG = ("browser", "test_summary", "test_crash", "test_course", "test_benchmarks", "test_nbgrader")


def pytest_collection_modifyitems(items):
    """The chapters, whose cache serves browser and exercises, then the long files, so that two workers end together.

    Two chapters run side by side; each has one worker, as in `polkit book`.
    """
    for item in items:
        if item.path.suffix == ".ipynb" and "parameters" in item.cell.metadata.get("tags", []):
            item.cell.source = re.sub(r"^workers = \d+", "workers = 1", item.cell.source, flags=re.MULTILINE)

    def turn(item):
        stem = item.path.stem
        if stem in FIRST:
            return FIRST.index(stem)
        if item.path.suffix == ".ipynb":
            return len(FIRST)
        found = [LONG.index(name) for name in (stem, item.path.parent.name) if name in LONG]
        return len(FIRST) + 1 + min(found, default=len(LONG))

    items.sort(key=turn)  # stable: within a file nothing changes


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session):
    """Notebooks run in the kernels of `polkit book`: none of them waits for its imports."""
    with fast_kernels() if any(item.path.suffix == ".ipynb" for item in session.items) else nullcontext():
        return (yield)


@pytest.fixture
def home():
    return Path(os.environ["POLKIT_HOME"])


@pytest.fixture(scope="session")
def small_task():
    return pk.task("digits").replace(train_size=256, epochs=4, checkpoint_interval=4)  # S = 4, T = 16, k = 4


@pytest.fixture(scope="session")
def small_proof(small_task, tmp_path_factory):
    return pk.prove(small_task, seed=0, out=tmp_path_factory.mktemp("small") / "proof", progress=False)


@pytest.fixture(scope="session")
def small_calibration(small_proof, tmp_path_factory):
    out = tmp_path_factory.mktemp("small") / "calibration.json"
    return pk.calibrate(small_proof, replays=2, margin=1.5, workers=1, out=out, progress=False)


@pytest.fixture(scope="session")
def small_standards(small_proof, small_calibration):
    return set_standards(small_proof, small_calibration)


@pytest.fixture
def copied(small_proof, tmp_path):
    """A copy of the honest proof, to tamper with."""
    return pk.open_proof(shutil.copytree(small_proof.folder, tmp_path / "copy"))


@pytest.fixture
def picture_task(tmp_path, monkeypatch):
    """Two steps on eight pictures of `images`, a folder where the test runs."""
    draw_pictures(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    size = {"classes": 2, "image_shape": (3, 8, 8), "train_size": 8, "batch_size": 4, "epochs": 1}
    return pk.task("cifar10").replace(data="folder:images", model="resnet8", checkpoint_interval=2, **size)


@pytest.fixture
def standard_streams(monkeypatch):
    """Makes both standard streams one pipe of an encoding; gives a function that returns what was written to it."""
    opened = []

    def make(encoding="utf-8", reader_leaves=False):
        reading, writing = (os.fdopen(end, mode) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
        opened.extend([reading, writing])
        if reader_leaves:
            reading.close()
        else:
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 2**20)
        for name in ("stdout", "stderr"):
            stream = open(writing.fileno(), "w", encoding=encoding, closefd=False)  # noqa: SIM115
            opened.append(stream)
            monkeypatch.setattr(sys, name, stream)
            monkeypatch.setattr(sys, f"__{name}__", stream)

        def said():
            sys.stdout.flush(), sys.stderr.flush()
            return b"" if reader_leaves else os.read(reading.fileno(), 2**20)

        return said

    yield make
    for stream in reversed(opened):
        stream.close()
