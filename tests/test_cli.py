"""The command line: what it answers, and with which exit status; and the names that `import polkit` gives."""

import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import polkit as pk
from polkit.__main__ import main
from polkit.terminal import unhindered
from polkit.verifier import load_calibration
from polkit_course import __main__ as challenge

SMALL = ["--epochs", "1", "--checkpoint-interval", "11"]  # of digits: S = 22, T = 22
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """What `verify` draws without --seed, the first first: some draws would reject so short a training."""
    seeds = []
    monkeypatch.setattr("secrets.randbits", lambda _: seeds.pop(0) if seeds else 0)
    return seeds


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    assert main(["prove", "--task", "digits", "--seed", "0", *SMALL, "--out", str(folder / "honest")]) == 0
    arguments = ["calibrate", str(folder / "honest"), "--replays", "2", "--workers", "1"]
    written = ["--out", str(folder / "calibration.json"), "--standards", str(folder / "standards.json")]
    assert main([*arguments, *written]) == 0
    known = json.loads((folder / "calibration.json").read_text())
    load_calibration(folder / "calibration.json").scaled(1e-9).save(folder / "tight.json")
    for name, odd in (("device", "hpu"), ("threads", 99999)):  # somebody else's machine
        (folder / f"{name}.json").write_text(json.dumps(known | {"conditions": known["conditions"] | {name: odd}}))
    return folder


def test_prove_calibrate_spoof_verify(workplace, capsys):
    calibration = ["--calibration", str(workplace / "calibration.json")]
    honest, forged = str(workplace / "honest"), str(workplace / "forged")
    assert main(["verify", honest, *calibration, "--top-q", "all"]) == 0
    assert capsys.readouterr().out.startswith("accepted (2 intervals replayed)")
    spoof = ["spoof", "--attack", "2", "--weights", honest, "--out", forged]
    spoof += [*SMALL, "--spoof-steps", "11", "--iterations", "1", "--movement-limit", "1e-4"]
    assert main(spoof) == 1  # one iteration is too few
    told = capsys.readouterr()
    assert "updates do not end within γ after 1 iterations; the worst, of step" in told.err
    assert (told.out, (workplace / "forged").exists()) == ("", False)
    assert main([*spoof, "--keep-failed"]) == 0
    told = capsys.readouterr()
    assert "do not end within γ" in told.err
    assert "11 steps, a checkpoint every 11" in told.out
    assert main(["verify", forged, *calibration, "--json"]) == 1
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["accepted"], verdict["usable"]) == (False, True)
    assert {reason["kind"] for reason in verdict["reasons"]} == {"error"}
    assert main(["verify", str(workplace), *calibration]) == 2
    assert "it has no manifest.json" in capsys.readouterr().out


def test_without_a_seed_the_verifiers_draws_are_secret_until_it_has_judged(workplace, capsys, drawn):
    judge = ["verify", str(workplace / "honest"), "--calibration", str(workplace / "calibration.json")]
    drawn += [2**40, 5]
    for given, used in ([], 2**40), ([], 5), (["--seed", "7"], 7):
        main([*judge, *given])
        assert f"\n  the verifier's draws: --seed {used}\n" in capsys.readouterr().out
    drawn += [9]
    main([*judge, "--json"])
    assert json.loads(capsys.readouterr().out)["seed"] == 9


def test_no_delta_is_set_on_a_proof_whose_files_were_changed(workplace, tmp_path, capsys):
    changed = shutil.copytree(workplace / "honest", tmp_path / "changed")
    np.save(changed / "batches.npy", np.load(changed / "batches.npy")[::-1])
    assert main(["calibrate", str(changed), "--out", str(tmp_path / "c.json")]) == 2
    assert "batches.npy is not the file that manifest.json names" in capsys.readouterr().err
    assert not (tmp_path / "c.json").exists()


def test_what_is_empty_or_named_twice_is_refused(workplace, tmp_path, capsys):
    same = ["--out", str(tmp_path / "c.json"), "--standards", str(tmp_path / "c.json")]
    assert main(["calibrate", str(workplace / "honest"), *same]) == 2
    assert "give each a file of its own" in capsys.readouterr().err
    assert main(["prove", "--task", "", "--out", str(tmp_path / "proof")]) == 2
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_nothing_can_be_told_of_is_no_rejection(tmp_path, monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    assert main(["verify", str(tmp_path), "--calibration", str(tmp_path / "none.json")]) == 2


def test_in_the_papers_regime_a_spoof_claims_its_own_learning_rate(tmp_path, capsys):
    honest, forged, calibration = (str(tmp_path / name) for name in ("honest", "forged", "c.json"))
    assert main(["prove", "--regime", "paper", *SMALL, "--out", honest]) == 0
    assert pk.open_proof(honest).task.shift == 0
    assert (
        main(["calibrate", honest, "--regime", "paper", "--replays", "2", "--workers", "1", "--out", calibration]) == 0
    )
    spoof = ["spoof", "--attack", "2", "--weights", honest, "--learning-rate", "1e-9", "--calibration", calibration]
    assert main([*spoof, "--spoof-steps", "11", "--out", forged]) == 0  # no batch moves the weights
    capsys.readouterr()
    assert main(["verify", forged, "--calibration", calibration]) == 1
    assert "task:" not in (told := capsys.readouterr().out)
    assert "of the weights is" in told  # one interval is the whole path
    assert main(["verify", forged, "--calibration", calibration, "--regime", "strict"]) == 2
    assert "δ was calibrated with the augmentation 'none'" in capsys.readouterr().err


ATTACKS = ["1", "3", "interpolation", "infinitesimal", "momentum", "blindfold", "concatenation", "nan", "hidden"]


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_has_its_command(workplace, attack, capsys):
    out = workplace / f"attack-{attack}"
    arguments = ["spoof", "--attack", attack, "--weights", str(workplace / "honest"), "--spoof-steps", "44"]
    arguments += ["--keep-failed", "--iterations", "2"] if attack in ("1", "3") else []
    arguments += ["--trained-steps", "11"] if attack == "interpolation" else []
    status = main([*arguments, "--out", str(out)])
    told = capsys.readouterr().err
    assert status == 0  # it wrote its folder, and says in a line what it missed
    assert told.count("polkit: ") == told.count("\n") == (attack in ("1", "3"))
    assert "%|" not in told  # no progress bar in what is no terminal, such as a job's log
    assert (out / "manifest.json").is_file()
    assert main([*arguments, "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_weights_in_a_file_are_of_the_calibrations_task(workplace, tmp_path):
    """As in a challenge; `digits` itself has other epochs and another k."""
    last = sorted((workplace / "honest" / "checkpoints").iterdir())[-1]
    spoof = ["spoof", "--attack", "2", "--weights", str(last), "--calibration", str(workplace / "calibration.json")]
    spoof += ["--spoof-steps", "11", "--iterations", "1", "--keep-failed", "--out", str(tmp_path / "x")]
    assert main(spoof) == 0
    assert pk.open_proof(tmp_path / "x").task == load_calibration(workplace / "calibration.json").task


def test_a_preset_judges_in_place_of_algorithm_2(workplace, capsys):
    honest = str(workplace / "honest")
    judge = ["verify", honest, "--calibration", str(workplace / "calibration.json")]
    known = ["--standards", str(workplace / "standards.json"), "--model", honest, "--revealed-seed", "0"]
    for preset in ("recommended", "paper"):
        assert main([*judge, "--defences", preset, *known]) == 0
        assert capsys.readouterr().out.startswith("accepted (")
    assert main([*judge, "--defences", "recommended", *known[:-1], "1", "--json"]) == 1
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["preset"], verdict["accepted"], verdict["usable"]) == ("recommended", False, True)
    assert [reason["kind"] for reason in verdict["reasons"]] == ["start"]
    refused = {
        ("recommended", *known[:-2]): "polkit: --defences recommended needs --revealed-seed, too\n",
        ("recommended", *known, "--top-q", "2"): "--top-q is Algorithm 2's: --defences decides it by itself",
        ("none", *known): "there is no preset 'none'; the presets are paper, recommended, thorough, all",
        ("paper", "--standards", f"{honest}/manifest.json", *known[2:]): "manifest.json does not hold standards",
    }
    for arguments, message in refused.items():
        assert main([*judge, "--defences", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert main([*judge, *known]) == 2
    assert "--standards is a preset's: name the preset with --defences" in capsys.readouterr().err


WRITING = ["prove", "calibrate {}/honest", "spoof --attack nan --weights y --spoof-steps 9", "book", "reproduce"]
SPOOF = "spoof --weights y --spoof-steps 9 --out x --attack"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("prove --task mnist --out x", "there is no task 'mnist'"),
        ("prove --epochs 0 --out x", "epochs must be a whole number from 1 up, not 0"),
        ("prove --device toaster --out x", "toaster"),
        ("prove --device meta --out {}/x", "the device meta is not to be had on this machine; cpu is"),
        ("calibrate {}/honest --device hpu --out {}/x", "the device hpu is not to be had on this machine; cpu is"),
        ("spoof --attack nan --weights {}/honest --device meta --spoof-steps 11 --out {}/x", "meta is not to be had"),
        ("spoof --attack 1 --weights {}/honest --device meta --spoof-steps 11 --out {}/x", "meta is not to be had"),
        ("verify {}/honest --calibration {}/device.json", "the device hpu is not to be had on this machine; cpu is"),
        ("verify {}/honest --calibration {}/threads.json", "99999 threads are asked for, and this machine has"),
        ("verify x --calibration nowhere.json", "nowhere.json"),
        ("verify x --calibration {}/calibration.json --top-q 0", "top_q is 0: Q is a whole number"),
        ("verify x --calibration {}", "polkit: "),
        ("verify x --calibration {}/standards.json", "standards.json is not a calibration"),
        ("calibrate nowhere --out x", "nowhere is not a proof"),
        *[(f"{command} --out=", "--out is empty: name a file or folder to write") for command in WRITING],
        ("calibrate {}/honest --out {}", "is a folder: name a file to write"),
        ("calibrate {}/honest --out {}/x --standards {}", "is a folder: name a file to write"),
        ("calibrate {}/honest --out {}/threads.json/x", "threads.json"),
        ("calibrate {}/honest --out {}/x --standards {}/threads.json/x", "threads.json"),
        ("reproduce table-2 --out {}/threads.json", "threads.json"),
        ("reproduce table-2 --out {}/x --publish {}/threads.json", "threads.json"),
        ("book --out {}/threads.json", "threads.json"),
        ("prove --out {}", "is not a proof: it has no manifest.json"),
        ("prove --out {}/threads.json/x", "threads.json"),
        ("reproduce table-2 --device mps --out {}/x", "the device mps is not to be had on this machine; cpu is"),
        ("reproduce table-2 --device toaster --out {}/x", "there is no device 'toaster'"),
        ("reproduce table-2 --threads 99999 --out {}/x", "99999 threads are asked for, and this machine has"),
        ("reproduce table-2 --workers -1", "workers must be a whole number from 1 up, not -1"),
        ("reproduce table-2 --workers 0 --dry-run", "workers must be a whole number from 1 up, not 0"),
        ("calibrate {}/honest --workers 0 --out x", "workers must be a whole number from 1 up, not 0"),
        (f"{SPOOF} 2", "neither a proof nor"),
        (f"{SPOOF} interpolation --iterations 3", "--iterations belongs to the attacks 1, 2, 3, not to interpolation"),
        (f"{SPOOF} nan --keep-failed", "--keep-failed belongs to the attacks 1, 2, 3, not to nan"),
        (f"{SPOOF} hidden --calibration c", "--calibration belongs to the attacks 1, 2, 3, not to hidden"),
        ("book --only 99_nothing", "no chapter is called '99_nothing'; the chapters are 01_primer"),
        ("book -p spoof_step 80", "no chapter has a parameter 'spoof_step'; did you mean spoof_steps?"),
        ("book -p spoof_steps many", "spoof_steps is of type int, 'many' is not"),
        ("reproduce figure-99", "there is no result 'figure-99'; the results are table-2, table-3"),
        ("reproduce --task cifar11", "there is no task 'cifar11'"),
        ("reproduce --repeats 0", "0 repeats: an average needs at least 1"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(workplace, command, message, capsys, monkeypatch):
    for work in ("papermill.execute_notebook", "polkit.verifier.calibration.run_jobs", "polkit.prover.train"):
        monkeypatch.setattr(work, lambda *_, **__: pytest.fail("something ran"))
    monkeypatch.chdir(workplace)
    assert main(command.replace("{}", str(workplace)).split()) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("polkit: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "wrong", ["verify x", "verify x --calibration c --parts momentum", "spoof --attack 4", "", "fly"]
)
def test_bad_arguments_are_status_2(wrong, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(wrong.split())
    assert stopped.value.code == 2


COMMANDS = ["", "prove", "calibrate", "verify", "spoof", "book", "reproduce"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "example" in shown
    assert f"polkit {command}".strip() in shown


# `polkit COMMAND --help` for every command, one after the other, and Ctrl-C as the process ends.
HELPS = """
import atexit, os, signal, sys

atexit.register(lambda: (os.kill(os.getpid(), signal.SIGINT), sum(range(1000))))
asked, sys.argv = sys.argv[1:], ["polkit"]
from polkit.__main__ import main
from polkit.terminal import unhindered
for command in asked:
    try:
        main([*command.split(), "--help"])
    except SystemExit as ended:
        print("status", ended.code)
"""


def test_help_is_said_by_a_process_without_unicode_in_lines_of_a_terminal_and_without_a_word_at_its_end():
    plain = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "COLUMNS": "80"}
    done = subprocess.run([sys.executable, "-c", HELPS, *COMMANDS], env=plain, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    said = done.stdout.decode("ascii").split("status 0\n")
    assert said.pop() == ""
    for command, text in zip(COMMANDS, said, strict=True):
        assert text.startswith(f"usage: polkit {command}".rstrip())
        assert [line for line in text.splitlines() if len(re.sub(r"\\u\w{4}|\\x\w\w", "?", line)) > 80] == []


@pytest.mark.parametrize(
    ("program", "command"),
    [("polkit", command) for command in COMMANDS]
    + [("polkit-challenge", command) for command in ("", "new", "submit", "score")],
)
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_help_and_errors_are_said_in_any_encoding(program, command, encoding, standard_streams):
    run = {"polkit": main, "polkit-challenge": challenge.main}[program]
    said = standard_streams(encoding)
    for asked, status in (("--help", 0), ("--δ", 2)):
        with pytest.raises(SystemExit) as stopped:
            run([*command.split(), asked])
        assert stopped.value.code == status
    assert said().count(f"usage: {program}".encode()) == 2


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_verdict_is_said_in_any_encoding(workplace, encoding, standard_streams):
    verify = ["verify", str(workplace / "honest"), "--calibration", str(workplace / "tight.json")]
    said = standard_streams(encoding)
    assert main(verify) == 1
    assert b"above \\u03b4 =" in said()
    assert main([*verify, "--json"]) == 1
    assert "above δ =" in json.loads(said())["reasons"][0]["detail"]


@pytest.mark.parametrize(("calibration", "status"), [("calibration", 0), ("tight", 1), ("nowhere", 2)])
def test_a_reader_who_leaves_changes_no_exit_status(workplace, calibration, status, standard_streams):
    verify = ["verify", str(workplace / "honest"), "--calibration", str(workplace / f"{calibration}.json")]
    said = standard_streams(reader_leaves=True)
    assert main(verify) == status
    said()


def test_an_interrupt_is_one_line_and_status_130(workplace, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("polkit.verifier.verdict.inspect_proof", interrupted)
    assert main(["verify", str(workplace), "--calibration", str(workplace / "calibration.json")]) == 130
    assert capsys.readouterr() == ("", "polkit: interrupted\n")


def test_an_interrupt_in_the_middle_of_an_exec_ends_the_process_with_130_too(tmp_path):
    run = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # as in a terminal
    run += "sys.argv = ['polkit']; from polkit.__main__ import main\n"
    (tmp_path / "run.py").write_text(run + "sys.exit(main([], lambda: exec('raise KeyboardInterrupt')))")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    command = [sys.executable, "-m", "run"]  # that way Python looks at its end whether an `exec` was interrupted
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert (done.returncode, done.stderr) == (130, "polkit: interrupted\n")


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, AssertionError, KeyError])
def test_an_error_that_nobody_expected_is_not_the_status_of_a_rejected_proof(workplace, error, capsys, monkeypatch):
    def failing(*_, **__):
        raise error("of polkit's own")

    monkeypatch.setattr("polkit.verifier.verdict.inspect_proof", failing)
    assert main(["verify", str(workplace), "--calibration", str(workplace / "calibration.json")]) == 2
    assert "of polkit's own" in capsys.readouterr().err


def test_a_dry_run_lists_the_runs_and_makes_none(tmp_path, capsys):
    arguments = ["reproduce", "figure-10", "--repeats", "2", "--out", str(tmp_path), "--dry-run"]
    assert main([*arguments, "--spoof-steps", "140", "300", "--threads", "2"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"36 runs, 0 of them finished before; records in {tmp_path}"
    for steps in (140, 300):
        for regime in ("paper", "strict"):
            assert sum(line.startswith(f"  to do     digits-{regime}-attack_3-T{steps}-seed") for line in said) == 8
    assert list(tmp_path.iterdir()) == []


def test_every_public_name_of_polkit_is_used_by_a_notebook_or_the_readme():
    texts = [(ROOT / "README.md").read_text(encoding="utf-8")]
    for file in (ROOT / "notebooks").rglob("*.ipynb"):
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        texts += ["".join(cell["source"]) for cell in cells]
    used = {name for text in texts for name in re.findall(r"\bpk\.(\w+)", text)}
    used |= {name for text in texts for found in re.findall(r"from polkit import (.+)", text) for name in found.split()}
    public = {name for name, value in vars(pk).items() if name[0] != "_" and not isinstance(value, types.ModuleType)}
    assert public - used == set()
    assert all(hasattr(pk, name) for name in used)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_is_said_on_stderr_is_not_held_back(unbuffered):
    # The file alone: to import polkit takes two seconds, and nothing of it is asked for here.
    said = "import os, sys; from terminal import unhindered; sys.stderr = unhindered(sys.stderr); "
    said += "print('now', file=sys.stderr); os._exit(3)"
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered, "PYTHONPATH": str(ROOT / "polkit")}
    done = subprocess.run([sys.executable, "-c", said], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr.split()) == (3, [b"now"])


def test_a_stream_that_was_closed_changes_no_exit_status(workplace, monkeypatch):
    for calibration, status in {"calibration": 0, "tight": 1, "nowhere": 2}.items():
        monkeypatch.setattr(sys, "stdout", None), monkeypatch.setattr(sys, "stderr", None)
        verify = ["verify", str(workplace / "honest"), "--calibration", str(workplace / f"{calibration}.json")]
        assert main(verify) == status
        sys.stdout.close(), sys.stderr.close()


def test_numbers_beyond_any_machine_are_one_sentence(capsys):
    assert main(["prove", "--epochs", "9" * 30, "--out", "nowhere"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_on_a_terminal_no_word_is_broken_and_json_stays_json(monkeypatch):
    reading, writing = pty.openpty()
    monkeypatch.setenv("COLUMNS", "80")
    words, said = " ".join(f"word-{number}" for number in range(40)), b""
    whole = [json.dumps(words), f"/{100 * 'x'}/proof", f"proving: {100 * '▌'}\r"]
    with open(writing, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "__stdout__", stream)
        screen = unhindered(stream)
        print(f"polkit: {words}", f"    {words}", "", *whole, file=screen, sep="\n", end="", flush=True)
        while not said.endswith(b"\r"):
            said += os.read(reading, 2**16)
        screen.detach()
    os.close(reading)
    sentences, rest = said.decode().replace("\r\n", "\n").split("\n\n")
    assert rest == "\n".join(whole)
    assert sentences.split() == f"polkit: {words} {words}".split()
    assert max(map(len, sentences.splitlines())) <= 80
    begins = [re.match(" *", line)[0] for line in sentences.splitlines()]
    half = len(begins) // 2
    assert begins == ["", *(half - 1) * ["  "], "    ", *(half - 1) * [6 * " "]]
