"""A task small enough to prove in a second, with its honest proof and calibration, made once a session."""

import os
import shutil

import pytest

import polkit as pk


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory):
    """No test reads or writes the user's own cache."""
    folder = tmp_path_factory.mktemp("home")
    before = os.environ.get("POLKIT_HOME")
    os.environ["POLKIT_HOME"] = str(folder)
    yield folder
    if before is None:
        del os.environ["POLKIT_HOME"]
    else:
        os.environ["POLKIT_HOME"] = before


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


@pytest.fixture
def copied(small_proof, tmp_path):
    """A copy of the honest proof, to tamper with."""
    return pk.open_proof(shutil.copytree(small_proof.folder, tmp_path / "copy"))
