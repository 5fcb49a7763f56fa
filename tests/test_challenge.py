"""The spoofing challenge: published, handed in, scored; and what a team may put in the place of a submission."""

import csv
import json
import os
import pickle
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from kills import contents
from mutations import reseal
from safetensors.torch import load_file

import polkit as pk
from polkit.__main__ import chosen_task
from polkit.__main__ import main as polkit_main
from polkit.__main__ import make_parser as polkits_parser
from polkit.defences import ends_at, set_standards
from polkit.proof import ProofError
from polkit.proof.folder import seed_commitment
from polkit.training import derive_seed
from polkit.verifier import PAPER, load_calibration
from polkit_course import challenge as course
from polkit_course.__main__ import main, make_parser
from polkit_course.challenge import ACCEPTED, COLUMNS, REJECTED, UNUSABLE, hand_in, instructions, open_challenge, score
from tests.pictures import draw_pictures, litter

MIDDLE = "checkpoints/00000004.safetensors"
PASSING = 3.0  # times δ: of a training of 16 steps, a straight path of 8 errs by 92 δ


def said(capsys, *arguments):
    """Exit status, stdout, stderr of a command."""
    status = main([*map(str, arguments)])
    told = capsys.readouterr()
    return status, told.out, told.err


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def rows_of(scores, capsys, challenge, submissions, *more):
    status, out, err = said(capsys, "score", challenge, submissions, "--out", scores, *more)
    assert (status, err, "A claim is a team's own word" in out) == (0, "", True)
    with open(scores, newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture(scope="module")
def place(small_proof, small_calibration, tmp_path_factory):
    """A published challenge, and a folder that claims to be its training."""
    folder = tmp_path_factory.mktemp("course")
    small_calibration.scaled(PASSING).save(folder / "calibration.json")
    given = ["--calibration", folder / "calibration.json", "--out", folder / "challenge", "--top-q", "all"]
    assert main(["new", *map(str, [small_proof.folder, *given])]) == 0
    out = {"out": folder / "straight", "progress": False}
    pk.interpolation_only(small_proof.final_weights(), small_proof.task, spoof_steps=8, seed=1, **out)
    return folder


def test_a_challenge_is_made_from_inside_the_proofs_folder(place, small_proof, tmp_path, monkeypatch):
    given = ["--calibration", place / "calibration.json", "--top-q", "all", "--out"]
    for folder, inside in ((".", small_proof.folder), ("..", small_proof.folder / "checkpoints")):
        monkeypatch.chdir(inside)
        out = tmp_path / f"in{folder}" / "challenge"
        assert main(["new", folder, *map(str, [*given, out])]) == 0
        assert contents(out) == contents(place / "challenge")
        assert pk.open_proof(folder).cost() == small_proof.cost()


@pytest.fixture(scope="module")
def challenge(place):
    return open_challenge(place / "challenge")


@pytest.fixture(scope="module")
def handed(small_proof, challenge, tmp_path_factory):
    """What a team that plays by the rules has handed in."""
    hand_in(challenge, small_proof, folder := tmp_path_factory.mktemp("handed") / "early")
    return folder


def test_a_course_from_the_first_command_to_the_scores(place, small_proof, tmp_path, capsys):
    for name, folder in (("retrained", small_proof.folder), ("Straight_1", place / "straight")):
        status, out, err = said(capsys, "submit", place / "challenge", folder, "--name", name, "--out", tmp_path / "in")
        assert (status, out, err) == (0, f"{tmp_path / 'in' / name}: to be handed in\n", "")
    retrained, straight = rows_of(tmp_path / "scores.csv", capsys, place / "challenge", tmp_path / "in")
    assert list(retrained) == ["rank", *COLUMNS]
    assert [retrained[name] for name in ("rank", "team", "verdict", "steps")] == ["1", "retrained", ACCEPTED, "16"]
    assert {value for name, value in retrained.items() if name.startswith("claimed_")} == {"1"}
    assert int(retrained["stored_bytes"]) == small_proof.cost().stored_bytes
    assert retrained["manifest_sha256"] == small_proof.digest
    assert [straight[name] for name in ("rank", "team", "verdict")] == ["", "Straight_1", REJECTED]
    assert straight["reasons"].startswith("error: steps 0 to 4: ")
    assert ',"Straight_1","rejected",' in (tmp_path / "scores.csv").read_text()  # no text without quotation marks


def test_of_the_proof_only_the_model_and_its_cost_are_published(place, small_proof, challenge):
    published = {file.name: file.read_bytes() for file in (place / "challenge").iterdir()}
    assert set(published) == {"challenge.json", "calibration.json", "model.safetensors", "README.md"}
    for name, raw in published.items():
        assert seed_commitment(0).encode() not in raw, name
        assert str(small_proof.folder).encode() not in raw, name
    model = load_file(place / "challenge" / "model.safetensors")
    assert {name.partition(".")[0] for name in model} == {"weights", "buffers"}
    assert ends_at(small_proof, challenge.model) == []
    assert challenge.honest_cost == small_proof.cost()


def test_a_preset_judges_by_the_seed_that_a_team_reveals(place, small_proof, small_calibration, tmp_path, capsys):
    standards, made, teams = tmp_path / "standards.json", tmp_path / "strict", tmp_path / "in"
    set_standards(small_proof, small_calibration).save(standards)
    given = ["--calibration", place / "calibration.json", "--defences", "recommended", "--out", made]
    assert said(capsys, "new", small_proof.folder, *given, "--standards", standards, "--revealed-seed", 0)[0] == 0

    def handed_in(folder, team, *seed):
        return said(capsys, "submit", made, folder, "--out", teams, "--name", team, *seed)[2]

    assert "give the seed that" in handed_in(small_proof.folder, "honest")
    assert "give the seed that" in handed_in(small_proof.folder, "honest", "--seed", 3)
    assert handed_in(small_proof.folder, "honest", "--seed", 0) == ""
    assert handed_in(place / "straight", "straight", "--seed", 1) == ""  # the seed of `polkit spoof`
    assert json.loads((teams / "straight" / "claims.json").read_text())["revealed_seed"] == derive_seed(1, "adversary")
    for name, seed in (("other", 1), ("none", None)):
        shutil.copytree(teams / "honest", teams / name)
        edit(teams / name / "claims.json", revealed_seed=seed)
    assert "recommended needs the standards" in said(capsys, "score", made, teams, "--out", tmp_path / "s.csv")[2]
    rows = rows_of(tmp_path / "s.csv", capsys, made, teams, "--standards", standards)
    found = {row["team"]: (row["verdict"], row["reasons"]) for row in rows}
    assert found["honest"] == (ACCEPTED, "")
    assert "steps: the proof has 8 steps, the task asks for 16" in found["straight"][1]
    assert found["other"] == (REJECTED, "start: this is not the seed that the manifest commits to")
    assert found["none"] == (UNUSABLE, "unusable: recommended needs the seed that the manifest commits to")


def test_an_honest_training_of_another_model_is_no_proof_of_this_one(challenge, small_task, tmp_path):
    other = pk.prove(small_task, seed=5, out=tmp_path / "other", progress=False)
    assert pk.verify(other, challenge.calibration, top_q="all").accepted
    assert str(course.judge(challenge, other.folder, None).reasons[0]).startswith("model: the weights end up to ")
    with pytest.raises(ProofError, match="cannot be handed in: model: the weights end up to "):
        hand_in(challenge, other, tmp_path / "in" / "us")


def test_what_the_regime_leaves_to_the_prover_can_be_handed_in(small_task, tmp_path):
    """In the regime `paper` a spoof may claim a rate of its own: what `judge` takes, `submit` takes."""
    task, quiet = PAPER.task(small_task), {"progress": False}
    proof = pk.prove(task, seed=0, out=tmp_path / "proof", **quiet)
    calibration = pk.calibrate(proof, regime=PAPER, replays=2, workers=1, out=tmp_path / "c.json", **quiet)
    asked = {"defences": course.ALGORITHM_2, "top_q": "all", "honest_cost": proof.cost()}
    challenge = course.Challenge(tmp_path, calibration=calibration, model=proof.final_weights(), **asked)
    own = task.replace(learning_rate=task.learning_rate / 16)
    spoof = pk.interpolation_only(proof.final_weights(), own, spoof_steps=16, seed=1, out=tmp_path / "spoof", **quiet)
    hand_in(challenge, spoof, tmp_path / "in" / "us")
    assert "task" not in {reason.kind for reason in course.judge(challenge, spoof.folder, None).reasons}


@pytest.mark.parametrize("name", ["../x", "a/b", ""])
def test_a_teams_name_leads_nowhere_else(name, place, small_proof, tmp_path, capsys):
    given = ["--name", name, "--out", str(tmp_path / "in")]
    assert main(["submit", str(place / "challenge"), str(small_proof.folder), *given]) == 2
    assert f"{name!r} is no team's name" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_new_refuses_what_would_be_no_challenge(place, small_proof, small_calibration, small_task, tmp_path, capsys):
    shutil.copytree(small_proof.folder, tmp_path / "bare")
    replace(small_calibration, task=small_task.replace(momentum=0.5)).save(tmp_path / "other.json")
    known = ["--calibration", place / "calibration.json"]
    refused = {
        (place / "straight", *known): "the verifier of this challenge does not accept",
        (tmp_path / "bare", *known): "bare.record.json is missing",
        (small_proof.folder, "--calibration", tmp_path / "other.json"): "claims momentum = 0.9, this task has 0.5",
        (small_proof.folder, *known, "--defences", "paper"): "paper needs the standards that `polkit calibrate",
        (
            small_proof.folder,
            *known,
            "--defences",
            "foo",
        ): "there is no preset 'foo'; the presets are paper, recommended",
        (small_proof.folder, *known, "--top-q", "some"): "top_q is 'some'",
        (small_proof.folder, *known, "--standards", "s.json"): "--standards is a preset's: name it with --defences",
        (small_proof.folder, *known, "--revealed-seed", 0): "--revealed-seed is a preset's",
        (small_proof.folder, *known, "--defences", "paper", "--top-q", 2): "--top-q is Algorithm 2's",
    }
    for arguments, message in refused.items():
        status, out, err = said(capsys, "new", *arguments, "--out", tmp_path / "c")
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert message in err
        assert not (tmp_path / "c").exists()
    with pytest.raises(FileExistsError, match="bare exists already"):
        course.make_challenge(small_proof, small_calibration, tmp_path / "bare")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("model.safetensors", {}, "model.safetensors does not hold the weights"),
        ("challenge.json", {"format_version": 2}, "this is not polkit-challenge version 1"),
        ("challenge.json", {"wall_seconds": 0}, "wall_seconds is 0, a number above 0"),
        ("challenge.json", {"top_q": 0}, "top_q is 0"),
    ],
)
def test_a_challenge_that_is_not_what_was_made_is_one_sentence(place, handed, tmp_path, capsys, name, changes, message):
    folder = shutil.copytree(place / "challenge", tmp_path / "challenge")
    edit(folder / name, **changes) if changes else (folder / name).write_bytes(b"x")
    status, out, err = said(capsys, "score", folder, handed.parent, "--out", tmp_path / "s.csv")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("new x --calibration y --out=", "--out is empty: name a file or folder to write"),
        ("submit x y --name z --out=", "--out is empty: name a file or folder to write"),
        ("score x y --out=", "--out is empty: name a file or folder to write"),
        ("score x y --out {}", "is a folder: name a file to write"),
        ("score x y --out {}/a-file/x", "a-file"),
        ("score x y", "challenge.json is missing"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(tmp_path, command, message, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("")
    status, out, err = said(capsys, *command.replace("{}", str(tmp_path)).split())
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("polkit: ")
    assert message in err


@pytest.mark.parametrize("command", ["", "new", "submit", "score"])
def test_help_has_an_example(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "examples:\n  polkit-challenge new" in shown
    assert f"usage: polkit-challenge {command}".rstrip() in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_students_are_told_commands_that_work(place, tmp_path, monkeypatch):
    text = (place / "challenge" / "README.md").read_text().replace("\\\n", "")
    commands = [line.split() for line in text.splitlines() if line.startswith("    polkit")]
    parsers = {"polkit": polkits_parser(), "polkit-challenge": make_parser()}
    _, verify, submit = (parsers[program].parse_args(arguments) for program, *arguments in commands)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "challenge").symlink_to(place / "challenge")
    assert polkit_main(commands[0][1:]) == 0
    assert pk.open_proof("forged").task == load_calibration("challenge/calibration.json").task
    assert (verify.proof, submit.challenge, submit.proof, submit.name) == ("forged", "challenge", "forged", "TEAM")


def test_where_a_folder_lies_is_all_that_students_must_say(challenge, small_calibration, tmp_path):
    draw_pictures(images := tmp_path / "images", count=128)
    place = f"folder:{images}"
    task = pk.task(place).replace(epochs=3, learning_rate=0.02, shift=0, flip=False, checkpoint_interval=1)
    replace(small_calibration, task=task.without_place()).save(tmp_path / "calibration.json")
    text = instructions(replace(challenge, calibration=load_calibration(tmp_path / "calibration.json")))
    assert f"{challenge.folder.name}/calibration.json --task folder:PATH --keep-failed" in text

    def chosen(**named):
        return chosen_task({"calibration": tmp_path / "calibration.json"} | named, "model.safetensors")

    assert chosen(task=place) == task
    assert chosen(task=f"{place}:first-half") == task.replace(half="first-half", train_size=128)
    assert chosen(task=place, learning_rate=0.01) == task.replace(learning_rate=0.01)
    assert chosen(task="digits") == pk.task("digits")
    with pytest.raises(ValueError, match="is of 'folder:images': say where its images are with --task folder:PATH"):
        chosen()


@pytest.mark.parametrize("name", ["", "-rf", "a.b", "=cmd()", "a b", "é", "a\n", "x" * 41, "\x1b[2J"])
def test_a_teams_name_is_of_a_safe_alphabet(challenge, small_proof, tmp_path, name):
    with pytest.raises(ProofError, match="is no team's name") as refused:
        hand_in(challenge, small_proof, tmp_path / "in" / (name or ".."))
    assert str(refused.value).isprintable()
    assert list(tmp_path.iterdir()) == []


def swap(file, put):
    shutil.rmtree(file) if file.is_dir() else file.unlink()
    put(file)


def outside(file):
    """The same, from elsewhere through a link."""
    kept = file.rename(file.parents[1] / f"elsewhere-{file.name}")
    file.symlink_to(kept)


def written(folder, name, raw):
    """Another file, of which the manifest knows."""
    (folder / name).write_bytes(raw)
    reseal(folder)


def claim(**changes):
    return lambda folder: edit(folder.parent / "claims.json", **changes)


HOSTILE = {  # what -> (done to TEAM/proof, a part of the reason)
    "nothing": (shutil.rmtree, "is not a proof: it has no manifest.json"),
    "a link": (outside, "is a link"),
    "a team that is a link": (lambda f: outside(f.parent), "is a link"),
    "a team that is a file": (lambda f: swap(f.parent, lambda x: x.write_text("zip")), "claims.json"),
    "a link out of the folder": (lambda f: swap(f / MIDDLE, lambda x: x.symlink_to("/etc/passwd")), "missing, or not"),
    "checkpoints elsewhere": (lambda f: outside(f / "checkpoints"), "checkpoints is a link or a file"),
    "a pipe for a checkpoint": (lambda f: swap(f / MIDDLE, os.mkfifo), f"{MIDDLE} is missing, or not"),
    "a changed file": (lambda f: (f / MIDDLE).write_bytes(b"x"), f"digest: {MIDDLE} is not the file"),
    "a pickle": (lambda f: written(f, MIDDLE, pickle.dumps(f)), f"{MIDDLE} is not a safetensors file"),
    "a terabyte of nothing": (lambda f: os.truncate(f / MIDDLE, 2**40), "bytes, it may have"),
    "a name that paints": (lambda f: (f / "\x1b[2J\x1b]0;x\x07").touch(), r"extra: \x1b[2J\x1b]0"),
    "a name that is a formula": (lambda f: (f / "=HYPERLINK(1);=cmd|' -C calc'!A0").touch(), "extra: =HYPER"),
    "many files": (lambda f: [(f / f"more{number}").touch() for number in range(300)], "extra: more"),
    "a task of its own": (lambda f: reseal(f, checkpoint_interval=8), "manifest.json claims k = 8"),
    "a hundred million steps": (lambda f: reseal(f, steps=10**8), "100000000 steps, no training of this"),
    "no claims": (lambda f: (f.parent / "claims.json").unlink(), "claims.json is missing, or not a file"),
    "NaN seconds": (claim(wall_seconds=float("nan")), "NaN is no JSON number"),
    "no operation": (claim(floating_point_operations=0), "floating_point_operations is 0, a number above"),
    "operations in text": (claim(floating_point_operations="=1+1"), "floating_point_operations must be of type"),
    "too many operations": (claim(floating_point_operations=10**400), "a number above 0 and up to 1e+30"),
}
NAMES = ["=cmd()", "-1+1", "@SUM(A1)", "a;=1+1", 'a"b', "\x1b[2J", "\u202eb", "é", b"\xff"]
WRONG = ("nothing", "a changed file", "checkpoints elsewhere", "a task of its own", "a hundred million steps")


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_usable_proof_is_not_taken(what, place, handed, tmp_path, capsys):
    folder = shutil.copytree(handed / "proof", tmp_path / "mine" / "proof")
    HOSTILE[what][0](folder)
    status, out, err = said(capsys, "submit", place / "challenge", folder, "--name", "us", "--out", tmp_path / "in")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert not (tmp_path / "in").exists()


def test_a_submission_stands_whole_or_not_at_all(place, small_proof, tmp_path, capsys):
    shutil.copytree(small_proof.folder, tmp_path / "mine")
    into = ["submit", place / "challenge", tmp_path / "mine", "--name", "us", "--out", tmp_path / "in"]
    assert "mine.record.json is missing" in said(capsys, *into)[2]
    assert list((tmp_path / "in").iterdir()) == []
    shutil.copy(small_proof.folder.with_name("proof.record.json"), tmp_path / "mine.record.json")
    assert said(capsys, *into)[0] == 0
    assert "us exists already" in said(capsys, *into)[2]


def safe(table):
    """The scores, if no text of them can paint a terminal or is a formula."""
    assert all(line.isprintable() for line in course.scores_text(table).split("\n"))
    assert not any(text.lstrip()[:1] in tuple("=+-@") for text in table[["team", "reasons"]].to_numpy().ravel())
    return table.set_index("team")


@pytest.fixture(scope="module")
def hostile_scores(handed, challenge, tmp_path_factory):
    """The scores of a folder in which every hostile submission lies beside an honest one."""
    folder = tmp_path_factory.mktemp("hostile") / "in"
    shutil.copytree(handed, folder / "early")
    for what, (spoil, _) in HOSTILE.items():
        spoil(shutil.copytree(handed, folder / what.replace(" ", "-")) / "proof")
    for name in NAMES:
        shutil.copytree(handed, os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(name))))
    return safe(score(challenge, folder))


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_submission_gets_a_row_and_the_others_theirs(hostile_scores, what):
    found = hostile_scores.loc[what.replace(" ", "-")]
    assert found["verdict"] in (REJECTED, UNUSABLE)
    assert HOSTILE[what][1] in found["reasons"]
    assert hostile_scores["rank"].dropna().to_dict() == {"early": 1}


def test_a_hostile_name_is_a_row_that_neither_paints_nor_computes(hostile_scores):
    named = hostile_scores.loc[[ascii(os.fsdecode(name)) for name in NAMES]]
    assert set(named["verdict"]) == {UNUSABLE}
    assert named["reasons"].str.contains("is no team's name").all()


def test_the_order_of_the_scores(handed, challenge, tmp_path, monkeypatch):
    """Accepted, rejected, not usable; among the accepted claimed operations, then steps, then bytes, then names."""

    def judged(_, folder, *__):
        if folder.parent.name == "y":
            raise FileNotFoundError("it claims a data set that is not on this machine")
        reasons = ("error: far",) if folder.parent.name == "x" else ()
        return SimpleNamespace(accepted=not reasons, usable=True, reasons=reasons)

    monkeypatch.setattr(course, "judge", judged)
    for name, operations in {"c": 10, "b": 20, "a": 30, "d": 30, "e": 30, "x": 1, "y": 2}.items():
        shutil.copytree(handed, tmp_path / name)
        edit(tmp_path / name / "claims.json", floating_point_operations=operations, gradient_evaluations=0)
    (tmp_path / "a" / "proof" / "more").write_text("more bytes than d")
    table = score(challenge, tmp_path)
    assert table["team"].tolist() == ["c", "b", "d", "e", "a", "x", "y"]
    assert table["rank"].dropna().tolist() == [1, 2, 3, 4, 5]
    assert table["verdict"].tolist()[5:] == [REJECTED, UNUSABLE]
    monkeypatch.setenv("COLUMNS", "80")  # in parts, each with the teams
    lines = course.scores_text(table).partition("\nSteps and bytes")[0].splitlines()
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if line.startswith("a ")]) > 1


def test_debris_is_no_team_and_is_not_handed_in(challenge, handed, small_proof, tmp_path):
    shutil.copytree(handed, tmp_path / "in" / "us")
    clean = score(challenge, tmp_path / "in")
    litter(tmp_path / "in")
    assert score(challenge, tmp_path / "in").equals(clean)
    mine = tmp_path / "mine"
    shutil.copytree(small_proof.folder, mine)
    shutil.copy(small_proof.folder.with_name("proof.record.json"), tmp_path / "mine.record.json")
    litter(mine)
    hand_in(challenge, pk.open_proof(mine), tmp_path / "in" / "them")
    names = {file.name for file in (tmp_path / "in" / "them").rglob("*")}
    assert names == {"proof", "claims.json", "checkpoints"} | {
        file.name for file in small_proof.folder.rglob("*") if file.is_file()
    }
