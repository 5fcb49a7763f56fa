"""The spoofing challenge: published, handed in, scored; and what a team may put in the place of a submission."""

import csv
import io
import json
import os
import pickle
import shutil
import stat
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from fuzzing import make_base
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from mutations import DUMB, JSON_VALUES, LIKELY, SMART, reseal
from safetensors.torch import load_file, save_file

import polkit as pk
from polkit.__main__ import main
from polkit.book.challenge import (
    ACCEPTED,
    COLUMNS,
    NOT_JUDGED,
    REJECTED,
    UNUSABLE,
    Judgement,
    Score,
    as_text,
    claimed_cost,
    hand_in,
    judge,
    make_challenge,
    open_challenge,
    open_kept,
    ranked,
    score,
    score_one,
    scores_csv,
    scores_text,
)
from polkit.defences import load_standards
from polkit.proof.folder import seed_commitment
from polkit.training.cost import Cost
from polkit.training.data import derive_seed

MIDDLE = "checkpoints/00000004.safetensors"
LOTS = 7_310_902_264_115_507
GENEROUS = 200.0  # times δ: of a training of 16 steps, a straight path of 8 errs by 92 δ, Attack I by 5,800 δ


def said(capsys, *arguments):
    """Exit status, stdout, stderr of a command."""
    status = main(["challenge", *map(str, arguments)])
    told = capsys.readouterr()
    return status, told.out, told.err


def table_of(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def place(small_proof, small_calibration, tmp_path_factory):
    """An honest proof, what a course makes of it, and three folders that claim to be its training."""
    folder = tmp_path_factory.mktemp("course")
    small_calibration.scaled(GENEROUS).save(folder / "calibration.json")
    given = ["--calibration", str(folder / "calibration.json"), "--lots", str(LOTS), "--title", "Try it"]
    made = ["--out", str(folder / "challenge"), "--top-q", "all"]
    assert main(["challenge", "new", str(small_proof.folder), *made, *given]) == 0
    known = open_challenge(folder / "challenge")
    given = {"seed": 1, "progress": False}
    pk.interpolation_only(known.model, known.task, spoof_steps=8, out=folder / "straight", **given)
    pk.attack_1(
        known.model,
        known.task,
        spoof_steps=8,
        calibration=small_calibration,
        iterations=2,
        out=folder / "forced",
        **given,
    )
    return folder


@pytest.fixture(scope="module")
def challenge(place):
    return open_challenge(place / "challenge")


@pytest.fixture(scope="module")
def kept(place, challenge):
    return open_kept(place / "challenge.private", challenge)


@pytest.fixture(scope="module")
def handed(place, challenge, tmp_path_factory):
    """What a team that plays by the rules has handed in."""
    return hand_in(challenge, place / "straight", "early", tmp_path_factory.mktemp("handed"))[0]


@pytest.fixture
def submissions(handed, tmp_path):
    """Two such teams, the second at twice the operations."""
    for name in ("early", "late"):
        shutil.copytree(handed, tmp_path / "in" / name)
    record = tmp_path / "in" / "late" / "proof.record.json"
    note = json.loads(record.read_text())
    note["cost"]["floating_point_operations"] *= 2
    record.write_text(json.dumps(note))
    return tmp_path / "in"


def test_a_course_from_the_first_command_to_the_scores(place, small_proof, tmp_path, capsys):
    into = ["--out", tmp_path / "in"]
    status, out, err = said(capsys, "submit", place / "challenge", small_proof.folder, "--name", "retrained", *into)
    assert (status, err) == (0, "")
    assert out.startswith("Algorithm 2, Q = all: accepted\n")
    assert said(capsys, "submit", place / "challenge", place / "straight", "--name", "Straight_1", *into)[0] == 0
    status, out, _ = said(capsys, "submit", place / "challenge", place / "forced", "--name", "forced", *into)
    assert status == 1  # handed in all the same: the student has seen it
    assert out.splitlines()[0] == "Algorithm 2, Q = all: rejected"
    assert "  error: steps 4 to 8: " in out
    scores = tmp_path / "scores.csv"
    status, out, err = said(capsys, "score", place / "challenge", tmp_path / "in", "--out", scores)
    assert (status, err) == (0, "")
    rows = table_of(scores.read_text())
    assert tuple(rows[0]) == COLUMNS
    assert [(row["rank"], row["team"], row["verdict"], row["steps"]) for row in rows] == [
        ("1", "Straight_1", "accepted", "8"),
        ("2", "retrained", "accepted", "16"),
        ("", "forced", "rejected", "8"),
    ]
    straight, retrained, forced = rows
    cost = pk.open_proof(place / "straight").cost().relative_to(small_proof.cost())
    assert float(straight["claimed_operations"]) == pytest.approx(cost["floating_point_operations"], rel=1e-5)
    assert float(straight["claimed_seconds"]) == pytest.approx(cost["wall_seconds"], rel=1e-5)
    shares = (
        "share_of_steps",
        "share_of_bytes",
        "claimed_operations",
        "claimed_seconds",
        "claimed_bytes",
        "claimed_gradient_evaluations",
    )
    assert {retrained[name] for name in shares} == {"1"}
    assert float(straight["share_of_steps"]) == 0.5
    on_disk = sum(file.stat().st_size for file in (tmp_path / "in" / "forced" / "proof").rglob("*") if file.is_file())
    assert int(forced["stored_bytes"]) == on_disk
    assert forced["reasons"].startswith("error: steps 4 to 8: ")
    lines = out.splitlines()
    assert lines[0] == "Try it, judged by algorithm-2"
    assert [line.split()[:2] for line in lines[3:5]] == [["1", "Straight_1"], ["2", "retrained"]]
    assert "Operations, seconds, gradients and bytes claimed are what a team says of itself" in out


def test_nothing_that_is_kept_is_published(place, small_proof, challenge, kept):
    published = {file.name: file.read_bytes() for file in (place / "challenge").iterdir()}
    assert set(published) == {"challenge.json", "calibration.json", "model.safetensors", "README.md"}
    assert kept.lots == LOTS
    for name, raw in published.items():
        assert str(LOTS).encode() not in raw, name
        assert seed_commitment(0).encode() not in raw, name
        assert str(small_proof.folder).encode() not in raw, name
    model = load_file(place / "challenge" / "model.safetensors")
    assert {name.partition(".")[0] for name in model} == {"weights", "buffers"}
    last = small_proof.final_weights()
    assert all(
        torch.equal(model[f"{part}.{name}"], value)
        for part in ("weights", "buffers")
        for name, value in last.parts()[part].items()
    )
    assert stat.S_IMODE((place / "challenge.private").stat().st_mode) == 0o700
    assert challenge.honest_cost == small_proof.cost()


@pytest.fixture(scope="module")
def strict(place, small_proof, small_calibration):
    """The same course, judged by a preset, with standards that `new` sets."""
    small_calibration.save(place / "strict.json")
    given = ["--calibration", place / "strict.json", "--defences", "recommended", "--out", place / "strict"]
    assert main(["challenge", "new", *map(str, [small_proof.folder, *given, "--revealed-seed", 0])]) == 0
    return place / "strict"


def test_a_preset_judges_with_standards_and_draws_of_its_own(place, strict, small_proof, tmp_path, capsys):
    published = b"".join(file.read_bytes() for file in strict.iterdir())
    assert {file.name for file in (place / "strict.private").iterdir()} == {"kept.json", "standards.json"}
    assert b"stage_scales" not in published
    into = [strict, small_proof.folder, "--out", tmp_path / "in", "--name", "honest"]
    assert "recommended judges this challenge: give the seed" in said(capsys, "submit", *into)[2]
    assert (
        "was not made with the seed 3: its manifest commits to another one"
        in (said(capsys, "submit", *into, "--seed", 3)[2])
    )
    assert not (tmp_path / "in" / "honest").exists()
    status, out, _ = said(capsys, "submit", *into, "--seed", 0)
    assert (status, "the challenge itself is judged by recommended" in out) == (0, True)
    into[1:2] = [place / "straight"]
    said(capsys, "submit", *into[:-1], "straight", "--seed", 1)  # the seed of `polkit spoof`
    seeds = {name: json.loads((tmp_path / "in" / name / "seed.json").read_text()) for name in ("honest", "straight")}
    assert seeds == {"honest": {"revealed_seed": 0}, "straight": {"revealed_seed": derive_seed(1, "adversary")}}
    hostile = {
        "list": "[" * 400,
        "float": '{"revealed_seed": 0.0}',
        "text": '{"revealed_seed": "0"}',
        "none": None,
        "large": '{"revealed_seed": 1' + "0" * 50 + "}",
        "other": '{"revealed_seed": 1}',
    }
    for name, text in hostile.items():
        shutil.copytree(tmp_path / "in" / "honest", tmp_path / "in" / name)
        (tmp_path / "in" / name / "seed.json").unlink()
        if text is not None:
            (tmp_path / "in" / name / "seed.json").write_text(text)
    assert said(capsys, "score", strict, tmp_path / "in", "--out", tmp_path / "s.csv")[0] == 0
    rows = {row["team"]: row for row in table_of((tmp_path / "s.csv").read_text())}
    verdicts = {name: row["verdict"] for name, row in rows.items()}
    assert verdicts == {
        "honest": "accepted",
        "straight": "rejected",
        "other": "rejected",
        **dict.fromkeys(("list", "float", "text", "large", "none"), "not usable"),
    }
    assert "steps: the proof has 8 steps, the task asks for 16" in rows["straight"]["reasons"]
    assert rows["other"]["reasons"] == "start: this is not the seed that the manifest commits to"
    assert rows["none"]["reasons"] == "seed: recommended wants the seed that the manifest commits to"


def test_the_papers_preset_wants_the_model_of_the_challenge_too(
    strict, small_proof, small_calibration, small_task, tmp_path
):
    standards = load_standards(strict.with_name("strict.private") / "standards.json")
    made = make_challenge(small_proof, small_calibration, tmp_path / "c", lots=1, defences="paper", standards=standards)
    other = pk.prove(small_task, seed=5, out=tmp_path / "other", progress=False)
    judged = judge(made, open_kept(tmp_path / "c.private", made), other.folder, None)
    assert (judged.accepted, judged.usable) == (False, True)
    assert judged.reasons[0].startswith("model: the weights end up to ")


def test_an_honest_training_of_another_model_is_no_proof_of_this_one(place, challenge, kept, small_task, tmp_path):
    other = pk.prove(small_task, seed=5, out=tmp_path / "other", progress=False)
    assert pk.verify(other, challenge.calibration, top_q="all").accepted
    judged = judge(challenge, kept, other.folder, None)
    assert (judged.accepted, judged.reasons[0][:27]) == (False, "model: the weights end up t")


def test_lots_are_the_seed_of_the_draws_that_score(place, challenge, kept, monkeypatch):
    real, seeds = pk.verify, []
    monkeypatch.setattr(
        "polkit.book.challenge.verify", lambda *given, **named: seeds.append(named["seed"]) or real(*given, **named)
    )
    judge(challenge, kept, place / "straight", None)
    assert seeds == [LOTS]


# What `new` refuses.


def refused_new(capsys, place, *arguments):
    before = sorted(place.iterdir())
    status, out, err = said(capsys, "new", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert sorted(place.iterdir()) == before  # no half of a challenge
    return err


def test_new_refuses_what_would_be_no_challenge(
    place, small_proof, small_calibration, small_task, tmp_path, capsys, monkeypatch
):
    known = ["--calibration", place / "calibration.json"]
    here = ["--out", tmp_path / "c"]
    err = refused_new(capsys, tmp_path, place / "forced", *known, *here)
    assert "the verifier of this challenge does not accept" in err
    assert "(error: steps 4 to 8: " in err
    shutil.copytree(small_proof.folder, tmp_path / "bare")
    assert "bare.record.json is missing" in refused_new(capsys, tmp_path, tmp_path / "bare", *known, *here)
    replace(small_calibration, task=small_task.replace(momentum=0.5)).save(tmp_path / "other.json")
    err = refused_new(capsys, tmp_path, small_proof.folder, "--calibration", tmp_path / "other.json", *here)
    assert "the calibration is for another task than that of" in err
    assert "their momentum differs" in err
    err = refused_new(
        capsys, tmp_path, small_proof.folder, *known, *here, "--defences", "paper", "--standards", tmp_path / "no.json"
    )
    assert "no.json" in err
    monkeypatch.setattr("polkit.__main__.calibrate", lambda *_, **__: pytest.fail("minutes were spent"))
    assert refused_new(capsys, tmp_path, small_proof.folder, *here, "--defences", "recommended") == (
        "polkit: recommended asks for the seed of a proof, and so for that of the honest one\n"
    )
    for name in ("c", "c.private"):
        (tmp_path / name).mkdir()
        assert f"{name} exists already" in refused_new(capsys, tmp_path, small_proof.folder, *here)
        (tmp_path / name).rmdir()
    with pytest.raises(ValueError, match="paper needs standards"):
        make_challenge(small_proof, small_calibration, tmp_path / "c", lots=0, defences="paper")
    with pytest.raises(ValueError, match="there is no verifier 'me'"):
        make_challenge(small_proof, small_calibration, tmp_path / "c", lots=0, defences="me")


def test_without_a_calibration_new_makes_one(small_proof, tmp_path, monkeypatch, small_calibration):
    """With a generous δ: by its own, from four intervals replayed twice, one draw in 70 rejects the honest proof."""
    asked = []
    monkeypatch.setattr(
        "polkit.__main__.calibrate", lambda proof, **named: asked.append(named) or small_calibration.scaled(GENEROUS)
    )
    assert main(["challenge", "new", str(small_proof.folder), "--out", str(tmp_path / "c")]) == 0
    assert asked[0]["conditions"] == pk.Conditions(augmentation="redraw")
    assert open_challenge(tmp_path / "c").title == "Spoof a training of digits"
    assert main(["challenge", "new", str(small_proof.folder), "--out", str(tmp_path / "d")]) == 0
    one, other = (json.loads((tmp_path / f"{name}.private" / "kept.json").read_text())["lots"] for name in "cd")
    assert one != other  # nobody guesses a draw of 63 bits


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: (c / "model.safetensors").write_bytes(b"x"),
            "model.safetensors is not the file that challenge.json",
        ),
        (lambda c: (c / "calibration.json").unlink(), "calibration.json is missing, or not a file"),
        (lambda c: (c / "challenge.json").unlink(), "is not a challenge: it has no challenge.json"),
        (lambda c: (c / "challenge.json").write_text("[" * 9), "challenge.json is not JSON"),
        (lambda c: edit(c, title=1), "challenge.json: title must be of type str"),
        (lambda c: edit(c, format_version=2), "challenge.json: this is not polkit-challenge version 1"),
        (lambda c: edit(c, defences="none"), "defences is 'none', not one of algorithm-2, paper, recommended, all"),
        (lambda c: edit(c, top_q=0), "top_q is 0, neither"),
        (lambda c: edit(c, top_q="some"), "top_q is 'some'"),
        (lambda c: edit(c, parts=["momentum"]), "parts is ['momentum'], not some of weights, buffers"),
        (lambda c: edit(c, parts=[]), "parts is [], not some of weights, buffers"),
        (lambda c: edit(c, honest_cost={}), "challenge.json: a cost has the meters"),
        (lambda c: edit(c, more=1), "challenge.json must have the fields"),
        (lambda c: edit(c, task={}), "its task is not that of calibration.json"),
        (lambda c: edit(c, title="another"), "challenge.private belongs to another challenge than"),
        (lambda c: shutil.rmtree(c.with_name("challenge.private")), "is not what `polkit challenge new` left"),
        (lambda c: (c.with_name("challenge.private") / "kept.json").write_text("{}"), "kept.json must have the fields"),
    ],
)
def test_a_challenge_that_is_not_what_was_made_is_one_sentence(place, tmp_path, capsys, change, message):
    for name in ("challenge", "challenge.private"):
        shutil.copytree(place / name, tmp_path / name)
    change(tmp_path / "challenge")
    (tmp_path / "in").mkdir()
    status, out, err = said(capsys, "score", tmp_path / "challenge", tmp_path / "in", "--out", tmp_path / "s.csv")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not (tmp_path / "s.csv").exists()


def edit(folder, **changes):
    facts = json.loads((folder / "challenge.json").read_text())
    (folder / "challenge.json").write_text(json.dumps(facts | changes))


def test_students_are_told_commands_that_parse(place, challenge):
    from polkit.__main__ import make_parser
    from polkit.book.challenge import instructions

    nameable = replace(challenge, calibration=replace(challenge.calibration, task=pk.task("digits").replace(epochs=7)))
    assert "polkit spoof" not in (place / "challenge" / "README.md").read_text()  # 256 images: no option says that
    text = instructions(nameable, "here")
    commands = text.split("```\n")[1].replace("\\\n", "").splitlines()
    options = [make_parser().parse_args(command.split()[1:]) for command in commands]
    assert (options[0].epochs, options[0].weights, options[0].spoof_steps) == (7, "here/model.safetensors", 140)
    assert (options[1].challenge, options[1].name) == ("here", "TEAM")
    code = text.split("```python\n")[1].split("```")[0].replace('"here/', f'"{place}/challenge/')
    found = {}
    exec(code, found)
    assert found["task"] == challenge.task
    assert found["calibration"] == challenge.calibration


@pytest.mark.parametrize("command", [[], ["new"], ["submit"], ["score"]])
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["challenge", *command, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "example" in shown
    assert f"polkit challenge {' '.join(command)}".strip() in shown


# Handing in.


@pytest.mark.parametrize(
    "name", ["", "-rf", "_a", "../a", "a/b", "a.b", "=cmd()", "a b", "é", "a\n", "x" * 41, "\x1b[2J"]
)
def test_a_teams_name_is_of_a_safe_alphabet(place, challenge, tmp_path, name):
    with pytest.raises(pk.ProofError, match="is no team's name") as refused:
        hand_in(challenge, place / "straight", name, tmp_path / "in")
    assert str(refused.value).isprintable()
    assert list(tmp_path.iterdir()) == []


def spoiled(place, tmp_path, spoil):
    folder = shutil.copytree(place / "straight", tmp_path / "mine")
    shutil.copy(place / "straight.record.json", tmp_path / "mine.record.json")
    spoil(folder)
    return folder


def test_only_the_known_files_of_a_proof_are_copied(place, challenge, tmp_path):
    def litter(folder):
        (folder / "notes.txt").write_text("x")
        (folder / "checkpoints" / "00000003.safetensors").write_text("x")
        (folder / "away").symlink_to("/")

    folder = spoiled(place, tmp_path, litter)
    where, judged, no_cost = hand_in(challenge, folder, "us", tmp_path / "in")
    names = {file.relative_to(where).as_posix() for file in where.rglob("*") if file.is_file()}
    checkpoints = {f"proof/checkpoints/{step:08d}.safetensors" for step in (0, 4, 8)}
    assert names == checkpoints | {
        "proof.record.json",
        "proof/manifest.json",
        "proof/batches.npy",
        "proof/signatures.npy",
        "proof/augmentation.npy",
    }
    assert (judged.accepted, no_cost) == (True, "")
    assert sorted(entry.name for entry in (tmp_path / "in").iterdir()) == ["us"]
    handed, made = claimed_cost(where / "proof"), pk.open_proof(place / "straight").cost()
    assert handed == made
    assert json.loads((where / "proof.record.json").read_text())["trace"] == []
    with pytest.raises(FileExistsError, match="us exists already"):
        hand_in(challenge, folder, "us", tmp_path / "in")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "manifest.json").unlink(), "is not a proof: it has no manifest.json"),
        (lambda f: (f / MIDDLE).unlink(), f"{MIDDLE} is missing, or not a file"),
        (lambda f: (f / MIDDLE).write_bytes(b"x"), f"mine is not usable: digest: {MIDDLE} is not the file"),
        (lambda f: os.truncate(f / MIDDLE, 2**40), "bytes, it may have"),
        (lambda f: swap(f / MIDDLE, os.mkfifo), f"{MIDDLE} is missing, or not a file"),
        (lambda f: swap(f / MIDDLE, lambda x: x.symlink_to(f / "batches.npy")), f"{MIDDLE} is missing, or not a file"),
        (lambda f: outside(f / "checkpoints"), "checkpoints is a link, not a folder"),
        (
            lambda f: reseal(f, checkpoint_interval=8),
            "mine is no proof of this challenge's task (manifest.json claims k",
        ),
        (lambda f: reseal(f, steps=32), "32 steps, no training of this task has more than 16"),
    ],
)
def test_what_is_no_usable_proof_is_not_taken(place, tmp_path, capsys, spoil, message):
    folder = spoiled(place, tmp_path, spoil)
    into = ["--name", "us", "--out", tmp_path / "in"]
    status, out, err = said(capsys, "submit", place / "challenge", folder, *into)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not (tmp_path / "in").exists() or list((tmp_path / "in").iterdir()) == []


def swap(file, put):
    file.unlink()
    put(file)


def outside(file):
    """The same, from elsewhere through a link."""
    kept = file.rename(file.parents[1] / "elsewhere")
    file.symlink_to(kept)


def test_a_submission_stands_whole_or_not_at_all(place, challenge, tmp_path, monkeypatch):
    monkeypatch.setattr("polkit.book.challenge.preview", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        hand_in(challenge, place / "straight", "us", tmp_path / "in")
    assert list((tmp_path / "in").iterdir()) == []


def test_without_a_record_a_folder_is_handed_in_and_the_student_told(place, tmp_path, capsys):
    shutil.copytree(place / "straight", tmp_path / "mine")
    into = ["--name", "us", "--out", tmp_path / "in"]
    status, _, err = said(capsys, "submit", place / "challenge", tmp_path / "mine", *into)
    assert status == 0
    assert err == (
        "polkit: without a cost, it ranks behind those that have one: mine.record.json is missing, or not a file\n"
    )
    assert sorted(file.name for file in (tmp_path / "in" / "us").iterdir()) == ["proof"]


# Scoring.


def test_what_counts_is_what_lies_on_the_disk(submissions, challenge, kept):
    first = score(challenge, kept, submissions)
    assert [(one.team, one.verdict) for one in first] == [("early", ACCEPTED), ("late", ACCEPTED)]
    assert first[0].digest == first[1].digest != ""  # one team has the other's folder
    file = submissions / "early" / "proof" / "batches.npy"
    raw = bytearray(file.read_bytes())
    raw[-4] ^= 1  # of an index, which stays in range
    file.write_bytes(raw)
    late, early = score(challenge, kept, submissions)
    assert (late.team, early.team, early.verdict) == ("late", "early", UNUSABLE)
    assert early.reasons[0] == "digest: batches.npy is not the file that manifest.json names"


def not_finite(folder):
    tensors = load_file(folder / MIDDLE)
    save_file({name: value * float("nan") for name, value in tensors.items()}, folder / MIDDLE)
    reseal(folder)


def pickled(file):
    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(file.parents[2] / "ran"),)

    file.write_bytes(pickle.dumps(Runs()))
    reseal(file.parents[1] if file.parent.name == "checkpoints" else file.parent)


def pickled_array(folder):
    np.save(folder / "batches.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    reseal(folder)


def declared(folder):
    header = json.dumps({"weights.x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (folder / MIDDLE).write_bytes(len(header).to_bytes(8, "little") + header)
    reseal(folder)


def many_files(folder):
    for number in range(300):
        (folder / f"more{number}").touch()


def whole_folder(spoil):
    """`spoil` for TEAM, where the others are for TEAM/proof."""
    return lambda folder: spoil(folder.parent)


def replaced(put):
    def spoil(folder):
        shutil.rmtree(folder)
        put(folder)

    return spoil


HOSTILE = {  # what -> (done to TEAM/proof, the verdict, a part of the sentence)
    "nothing": (replaced(lambda f: None), UNUSABLE, "proof is missing, or not a folder"),
    "an empty folder": (replaced(os.mkdir), UNUSABLE, "it has no manifest.json"),
    "a file": (replaced(lambda f: f.write_text("x")), UNUSABLE, "proof is missing, or not a folder"),
    "a pipe": (replaced(os.mkfifo), UNUSABLE, "proof is missing, or not a folder"),
    "a link to another team": (
        replaced(lambda f: f.symlink_to(f.parents[1] / "early" / "proof")),
        UNUSABLE,
        "proof is missing, or not a folder",
    ),
    "a team that is a link": (
        whole_folder(replaced(lambda t: t.symlink_to(t.parent / "early"))),
        UNUSABLE,
        "the submission is missing, or not a folder",
    ),
    "a team that is a pipe": (whole_folder(replaced(os.mkfifo)), UNUSABLE, "the submission is missing, or not"),
    "a team that is a file": (whole_folder(replaced(lambda t: t.write_text("zip"))), UNUSABLE, "the submission is"),
    "a link out of the folder": (
        lambda f: swap(f / MIDDLE, lambda x: x.symlink_to("/etc/passwd")),
        UNUSABLE,
        f"{MIDDLE} is missing, or not a file",
    ),
    "a link to itself": (
        lambda f: swap(f / "manifest.json", lambda x: x.symlink_to(x)),
        UNUSABLE,
        "manifest.json is missing, or not a file",
    ),
    "checkpoints elsewhere": (lambda f: outside(f / "checkpoints"), UNUSABLE, "checkpoints is a link or a file"),
    "a pipe for a manifest": (lambda f: swap(f / "manifest.json", os.mkfifo), UNUSABLE, "manifest.json is missing"),
    "a pipe for a checkpoint": (lambda f: swap(f / MIDDLE, os.mkfifo), UNUSABLE, f"{MIDDLE} is missing, or not"),
    "a pickle for a checkpoint": (lambda f: pickled(f / MIDDLE), UNUSABLE, f"{MIDDLE} is not a safetensors file"),
    "a pickle for an array": (lambda f: pickled(f / "signatures.npy"), UNUSABLE, "signatures.npy is not a NumPy array"),
    "a pickle inside an array": (pickled_array, UNUSABLE, "batches.npy holds {'descr': '|O'"),
    "tensors that are only declared": (declared, UNUSABLE, f"{MIDDLE} is not a safetensors file"),
    "a terabyte of nothing": (lambda f: os.truncate(f / MIDDLE, 2**40), UNUSABLE, "bytes, it may have"),
    "not a number": (not_finite, REJECTED, "holds NaN or infinity"),
    "a name that is no UTF-8": (
        lambda f: open(os.fsencode(f) + b"/\xff\xfe", "w").close(),
        UNUSABLE,
        r"extra: \udcff\udcfe",
    ),
    "a name that paints": (lambda f: (f / "\x1b[2J\x1b]0;x\x07").touch(), UNUSABLE, r"extra: \x1b[2J\x1b]0"),
    "a name that is a formula": (lambda f: (f / "=HYPERLINK(1);=cmd|' -C calc'!A0").touch(), UNUSABLE, "extra: =HYPER"),
    "a name that turns the line": (lambda f: (f / "\u202egpj.exe").touch(), UNUSABLE, r"extra: \u202egpj"),
    "many files": (many_files, UNUSABLE, "extra: more"),
    "lists in lists": (lambda f: (f / "manifest.json").write_text("[" * 10**6), UNUSABLE, "manifest.json is not JSON"),
    "a task of its own": (lambda f: reseal(f, checkpoint_interval=8), UNUSABLE, "manifest.json claims k = 8"),
    "a hundred million steps": (lambda f: reseal(f, steps=10**8), UNUSABLE, "100000000 steps, no training of this"),
}


def safe(challenge, scores):
    """Both texts, if neither can paint a terminal nor hold a formula."""
    for text in (written := scores_csv(challenge, scores), scores_text(challenge, scores)):
        assert all(line.isprintable() for line in text.split("\n"))
        text.encode()
    for row in table_of(written):
        assert set(row) == set(COLUMNS)
        assert not any(value.lstrip()[:1] in tuple("=+@") or ";" in value for value in row.values())
    return written


@pytest.fixture(scope="module")
def hostile_scores(handed, challenge, kept, tmp_path_factory):
    """Team -> score, of one folder in which every hostile submission lies beside an honest one."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copytree(handed, folder / "early")
    for what, (spoil, _, _) in HOSTILE.items():
        team = shutil.copytree(handed, folder / what.replace(" ", "-"))
        spoil(team / "proof")
    begun = time.perf_counter()
    scores = score(challenge, kept, folder)
    assert time.perf_counter() - begun < 60
    assert not list(folder.rglob("ran"))
    assert len(scores) == 1 + len(HOSTILE)
    assert [row["rank"] for row in table_of(safe(challenge, scores))] == ["1"] + [""] * len(HOSTILE)
    return {one.team: one for one in scores}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_submission_gets_a_row_and_the_others_theirs(hostile_scores, what):
    _, verdict, sentence = HOSTILE[what]
    found = hostile_scores[what.replace(" ", "-")]
    assert found.verdict == verdict
    assert sentence in found.reasons[0], found.reasons
    assert hostile_scores["early"].verdict == ACCEPTED


@pytest.mark.parametrize(
    "name",
    [
        "=cmd()",
        "-1+1",
        "@SUM(A1)",
        "+1",
        "=1",
        "a;=1+1",
        "a,b",
        'a"b',
        "\x1b[2J",
        "a\nb",
        "\u202eb",
        "a.partial",
        ".hidden",
        "é",
        b"\xff",
        "x" * 200,
    ],
)
def test_a_hostile_name_is_a_row_that_neither_paints_nor_computes(submissions, challenge, kept, name, monkeypatch):
    (submissions / "early").rename(os.fsdecode(os.path.join(os.fsencode(submissions), os.fsencode(name))))
    monkeypatch.setattr("polkit.book.challenge.judge", lambda *_, **__: Judgement(True, True, ()))
    late, other = score(challenge, kept, submissions)
    assert (late.team, late.verdict, other.verdict) == ("late", ACCEPTED, UNUSABLE)
    assert "is no team's name" in other.reasons[0]
    row = table_of(safe(challenge, [late, other]))[1]
    assert row["verdict"] == UNUSABLE


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("plain", "plain"),
        ("error: d = 1", "error: d = 1"),
        ("=1", "'=1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@A", "'@A"),
        (" =1", "' =1"),
        ("\uff1d1", "'\uff1d1"),
        ("\uff20A", "'\uff20A"),
        ("a;=1", "a,=1"),
        ("", ""),
        ("–", "–"),
    ],
)
def test_no_cell_is_a_formula(text, cell):
    assert as_text(text) == cell


def cost_with(**meters):
    return lambda file: edit_cost(file, meters)


def edit_cost(file, meters):
    note = json.loads(file.read_text())
    note["cost"] |= meters
    file.write_text(json.dumps({**note, "cost": {name: value for name, value in note["cost"].items() if value != "-"}}))


BAD_RECORDS = {
    "none": (os.unlink, "proof.record.json is missing, or not a file"),
    "a link": (lambda f: outside_file(f), "proof.record.json is missing, or not a file"),
    "a pipe": (lambda f: swap(f, os.mkfifo), "proof.record.json is missing, or not a file"),
    "a folder": (lambda f: swap(f, os.mkdir), "proof.record.json is missing, or not a file"),
    "a terabyte": (lambda f: os.truncate(f, 2**40), "bytes, it may have 16777216 at most"),
    "lists in lists": (lambda f: f.write_text("[" * 10**6), "is not JSON (it is made of little but lists"),
    "objects in objects": (lambda f: f.write_text('{"a":' * 9000 + "1" + "}" * 9000), "is not JSON"),
    "no JSON": (lambda f: f.write_bytes(b"\xff\x00"), "is not JSON"),
    "a list": (lambda f: f.write_text("[]"), "names no cost"),
    "no cost": (lambda f: f.write_text("{}"), "names no cost"),
    "a cost that is a list": (lambda f: f.write_text('{"cost": [1, 2, 3, 4]}'), "a cost has the meters"),
    "NaN": (cost_with(floating_point_operations=float("nan")), "NaN is no JSON number"),
    "infinity": (cost_with(wall_seconds=float("inf")), "Infinity is no JSON number"),
    "negative": (cost_with(floating_point_operations=-1), "floating_point_operations is -1, a number from more than 0"),
    "no operation": (cost_with(floating_point_operations=0), "floating_point_operations is 0, a number from more"),
    "no second": (cost_with(wall_seconds=0.0), "wall_seconds is 0.0, a number from more than 0"),
    "negative gradients": (cost_with(gradient_evaluations=-0.5), "gradient_evaluations is -0.5, a number from 0"),
    "text": (cost_with(floating_point_operations="=1+1"), "floating_point_operations is '=1+1'"),
    "true": (cost_with(floating_point_operations=True), "floating_point_operations is True"),
    "no float": (cost_with(floating_point_operations=10**400), "a number from more than 0 to 1e+30 was expected"),
    "a meter less": (cost_with(wall_seconds="-"), "a cost has the meters"),
    "a meter more": (cost_with(effort=1), "a cost has the meters"),
    "fewer bytes than there are": (cost_with(stored_bytes=1), "the record claims 1 bytes, the folder has"),
}


def outside_file(file):
    kept = file.rename(file.parents[2] / "true.record.json")
    file.symlink_to(kept)


@pytest.mark.parametrize("what", BAD_RECORDS)
def test_a_record_that_cannot_be_true_ranks_after_those_that_can(submissions, challenge, kept, what, monkeypatch):
    monkeypatch.setattr("polkit.book.challenge.judge", lambda *_, **__: Judgement(True, True, ()))  # not its subject
    spoil, sentence = BAD_RECORDS[what]
    spoil(submissions / "early" / "proof.record.json")
    late, early = score(challenge, kept, submissions, apart_from=["true.record.json"])
    assert (late.team, early.team, early.verdict, early.cost) == ("late", "early", ACCEPTED, None)
    assert sentence in early.no_cost
    row = table_of(safe(challenge, [late, early]))[1]
    assert (row["rank"], row["claimed_operations"], row["steps"]) == ("2", "", "8")
    assert int(row["stored_bytes"]) == early.stored_bytes
    assert f"early: {row['no_cost']}" in scores_text(challenge, [late, early])


def test_a_path_without_a_gradient_can_be_true(submissions, challenge, kept):
    edit_cost(submissions / "early" / "proof.record.json", {"gradient_evaluations": 0})
    first = score_one(challenge, kept, submissions / "early")
    assert (first.cost.gradient_evaluations, first.no_cost) == (0, "")


def test_the_order_of_the_scores():
    def one(team, verdict=ACCEPTED, operations=None, stored=100):
        return Score(
            team,
            verdict,
            steps=8,
            stored_bytes=stored,
            cost=None if operations is None else Cost(1.0, operations, 1.0, stored),
        )

    expected = [
        one("cheap", operations=10, stored=300),
        one("small", operations=20, stored=100),
        one("alike-a", operations=20, stored=200),
        one("alike-b", operations=20, stored=200),
        one("dear", operations=1e9),
        one("silent", stored=50),
        one("silent-large", stored=60),
        one("refused", REJECTED, operations=1),
        one("refused-silent", REJECTED),
        one("broken", UNUSABLE, stored=None),
        one("failed", NOT_JUDGED, stored=None),
    ]
    for seed_of_order in range(20):
        shuffled = [expected[i] for i in np.random.default_rng(seed_of_order).permutation(len(expected))]
        assert ranked(shuffled) == expected


def test_a_failure_of_ours_is_a_row_and_the_exit_status(place, submissions, challenge, monkeypatch, capsys, tmp_path):
    real = judge

    def judged(challenge, kept, folder, seed, **named):
        if folder.parent.name == "early":
            raise FileNotFoundError("cifar100 is not here\x1b[2J")
        return real(challenge, kept, folder, seed, **named)

    monkeypatch.setattr("polkit.book.challenge.judge", judged)
    status, out, err = said(capsys, "score", place / "challenge", submissions, "--out", tmp_path / "s.csv")
    assert (status, err) == (1, "")
    assert [(row["team"], row["verdict"]) for row in table_of((tmp_path / "s.csv").read_text())] == [
        ("late", ACCEPTED),
        ("early", NOT_JUDGED),
    ]
    assert r"early: FileNotFoundError: cifar100 is not here\x1b[2J" in out


def test_the_scores_may_lie_among_what_was_handed_in(place, submissions, capsys):
    for _ in range(2):
        assert said(capsys, "score", place / "challenge", submissions, "--out", submissions / "scores.csv")[0] == 0
        assert len(table_of((submissions / "scores.csv").read_text())) == 2


def test_a_folder_of_submissions_that_is_not_there_is_one_sentence(place, tmp_path, capsys):
    status, out, err = said(capsys, "score", place / "challenge", tmp_path / "no", "--out", tmp_path / "s.csv")
    assert (status, out, err.count("\n")) == (2, "", 1)


# Mutated submissions, of the proof and the record that tests/mutations.py knows how to spoil.


@pytest.fixture(scope="module")
def smallest(tmp_path_factory):
    """The proof that mutations.py knows, a challenge made of it, and what was kept."""
    folder = tmp_path_factory.mktemp("smallest")
    base, calibration = make_base(folder)
    made = make_challenge(pk.open_proof(base), calibration, folder / "challenge", lots=3, top_q="all")
    return base, made, open_kept(folder / "challenge.private", made)


@pytest.mark.parametrize("family", ["dumb", "smart", "record"])
def test_mutated_submissions_are_rows(smallest, tmp_path, monkeypatch, family):
    base, made, kept = smallest
    team, verdicts = tmp_path / "in" / "team", []
    if family == "record":
        monkeypatch.setattr("polkit.book.challenge.judge", lambda *_, **__: Judgement(True, True, ()))

    @seed(0)
    @settings(
        max_examples=40, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(st.data())
    def scored(data):
        shutil.rmtree(team.parent, ignore_errors=True)
        shutil.copytree(base, team / "proof")
        if family == "record":
            cost = {meter: data.draw(JSON_VALUES | st.sampled_from(LIKELY)) for meter in asdict(Cost())}
            note = data.draw(st.just({"cost": cost}) | JSON_VALUES)
            (team / "proof.record.json").write_text(json.dumps(note))
        else:
            data.draw(st.sampled_from(DUMB if family == "dumb" else SMART))(team / "proof", data.draw)
            if family == "smart" and (team / "proof" / "manifest.json").is_file():
                reseal(team / "proof")
        one = score_one(made, kept, team)
        assert one.verdict in (ACCEPTED, REJECTED, UNUSABLE), one
        assert one.verdict == ACCEPTED or one.reasons
        assert family != "record" or one.verdict == ACCEPTED
        safe(made, [one])
        verdicts.append(one.verdict)

    scored()
    assert len(verdicts) >= 40
    assert family == "record" or {UNUSABLE} < set(verdicts)
