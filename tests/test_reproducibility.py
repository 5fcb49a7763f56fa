"""The same task, seed, Conditions, versions and kind of machine make the same manifest, whoever runs it and where."""

import json
import shutil
import socket

import numpy as np
import pandas as pd
import pytest
import reproducibility
from PIL import Image

import polkit as pk
from polkit.__main__ import main


@pytest.mark.slow
def test_a_fresh_process_elsewhere_makes_the_same_manifest(tmp_path, small_task):
    """Another working directory, language, time zone, hash seed, cache and number of threads, all at once."""
    variables = {name: value for changed, _ in reproducibility.SAME.values() for name, value in changed.items()}
    assert {"LC_ALL", "TZ", "PYTHONHASHSEED", "POLKIT_HOME", "OMP_NUM_THREADS"} <= set(variables)
    here = pk.prove(pk.task("digits", epochs=1), out=tmp_path / "here", progress=False)
    there = reproducibility.made(tmp_path, "working directory", variables, {}, epochs=1)
    found = reproducibility.compared(here, there, reference=1.0)
    assert found == {"same_digest": True, "same_checkpoints": True, "first_unlike": "", "error_l2": 0.0}


def test_a_difference_is_found_where_it_begins(small_proof, tmp_path, small_task):
    other = pk.prove(small_task, seed=0, conditions=pk.Conditions(onednn=False), out=tmp_path / "other", progress=False)
    found = reproducibility.compared(small_proof, other, reference=2.0)
    moved = pk.distances(small_proof.final_weights().weights, other.final_weights().weights)["l2"]
    assert (found["same_digest"], found["same_checkpoints"], found["first_unlike"]) == (False, False, 4)
    assert found["error_l2"] == moved / 2 > 0


def test_the_manifest_names_no_place_no_time_and_nobody(small_proof, tmp_path):
    text = (small_proof.folder / "manifest.json").read_text()
    assert not [
        word
        for word in (str(small_proof.folder.parent), socket.gethostname(), "/")
        if word in text.replace("checkpoints/", "")
    ]
    manifest = json.loads(text)
    assert set(manifest["versions"]) == {"polkit", "torch", "numpy"}
    assert {type(value) for value in (manifest["steps"], manifest["checkpoint_interval"])} == {int}
    again = pk.prove(small_proof.task, seed=0, out=tmp_path / "again", progress=False)
    assert (again.folder / "manifest.json").read_text() == text  # and so no time


@pytest.fixture
def two_places(tmp_path):
    """The same folder of images in two places."""
    values = np.random.default_rng(0).integers(0, 256, (130, 32, 32, 3), dtype=np.uint8)
    for number, pixels in enumerate(values):
        file = tmp_path / "one" / "images" / "train" / ("ant" if number < 70 else "bee") / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    small = {"epochs": 2, "batch_size": 65, "checkpoint_interval": 1, "model": "resnet8", "learning_rate": 0.01}
    return [pk.task(f"folder:{tmp_path / place / 'images'}").replace(**small) for place in ("one", "two")]


def test_a_folder_of_images_makes_the_same_proof_wherever_it_lies(two_places, tmp_path, capsys):
    proofs = [
        pk.prove(task, out=tmp_path / f"proof-{number}", progress=False) for number, task in enumerate(two_places)
    ]
    assert proofs[0].digest == proofs[1].digest
    assert proofs[0].manifest["task"]["data"] == "folder:images"
    assert str(tmp_path) not in (proofs[0].folder / "manifest.json").read_text()
    # Whoever made it still knows where the images lie; whoever opens it does not.
    assert [proof.task for proof in proofs] == two_places
    assert pk.prove(two_places[1], out=proofs[0].folder, progress=False).task == two_places[1]
    opened = pk.open_proof(proofs[0].folder)
    assert opened.task == two_places[0].without_place()
    shutil.rmtree(tmp_path / "one")
    shutil.rmtree(tmp_path / "two")
    calibration = pk.calibrate(opened, replays=2, margin=1.01, workers=1, out=tmp_path / "c.json", progress=False)
    assert pk.verify(opened, calibration, top_q=1).accepted
    assert (
        main(
            [
                "spoof",
                "--attack",
                "interpolation",
                "--weights",
                str(opened.folder),
                "--spoof-steps",
                "2",
                "--out",
                str(tmp_path / "forged"),
            ]
        )
        == 2
    )
    assert "is of 'folder:images': say where its images are with --task folder:PATH" in capsys.readouterr().err


def test_what_must_not_matter_did_not_where_it_was_measured():
    measured = pd.read_csv(pk.prover.__file__.replace("polkit/prover.py", "data/results/digits/reproducibility.csv"))
    assert set(measured["change"]) >= set(reproducibility.changes())
    kinds = measured.groupby("kind")
    assert kinds["same_digest"].all()["must not matter"]
    assert (measured.loc[measured["same_checkpoints"], "error_l2"] == 0).all()
    assert (measured.loc[measured["kind"] == "seed", "error_l2"] == 1).all()
