"""The command line: what it answers, and with which exit status."""

import json

import pytest

from polkit.__main__ import main

SMALL = ["--epochs", "1", "--checkpoint-interval", "11"]  # of digits: S = 22, T = 22


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    assert main(["prove", "--task", "digits", "--seed", "0", *SMALL, "--out", str(folder / "honest")]) == 0
    arguments = ["calibrate", str(folder / "honest"), "--replays", "2", "--workers", "1"]
    written = ["--out", str(folder / "calibration.json"), "--standards", str(folder / "standards.json")]
    assert main([*arguments, *written]) == 0
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
    assert "optimisations did not end within γ in 1 iterations; the worst, of step" in told.err
    assert (told.out, (workplace / "forged").exists()) == ("", False)
    assert main([*spoof, "--keep-failed"]) == 1
    told = capsys.readouterr()
    assert "did not end within γ" in told.err
    assert "11 steps, a checkpoint every 11" in told.out
    assert main(["verify", forged, *calibration, "--json"]) == 1
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["accepted"], verdict["usable"], verdict["replayed_intervals"]) == (False, True, 1)
    assert {reason["kind"] for reason in verdict["reasons"]} == {"error"}
    assert main(["verify", str(workplace), *calibration]) == 2
    assert "it has no manifest.json" in capsys.readouterr().out


@pytest.mark.parametrize("attack", ["1", "3", "interpolation", "infinitesimal", "momentum", "blindfold", "hidden"])
def test_every_attack_has_its_command(workplace, attack, capsys):
    out = workplace / f"attack-{attack}"
    arguments = ["spoof", "--attack", attack, "--weights", str(workplace / "honest"), "--spoof-steps", "44"]
    arguments += ["--keep-failed"] if attack in ("1", "3") else []
    arguments += ["--trained-steps", "11"] if attack == "interpolation" else []
    status = main([*arguments, "--out", str(out)])
    told = capsys.readouterr().err
    assert status == bool(told.count("polkit: "))
    assert "%|" not in told  # no progress bar in what is no terminal, such as a job's log
    assert (attack, status) in [(attack, 0), ("1", 1), ("3", 1)]
    assert (out / "manifest.json").is_file()
    assert main([*arguments, "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_preset_judges_in_place_of_algorithm_2(workplace, capsys):
    honest = str(workplace / "honest")
    judge = ["verify", honest, "--calibration", str(workplace / "calibration.json")]
    known = ["--standards", str(workplace / "standards.json"), "--model", honest, "--revealed-seed", "0"]
    for preset, said in (
        ("recommended", "accepted (recommended: 100% of the training replayed)"),
        ("paper", "accepted (paper: 50% of the training replayed)"),
    ):
        assert main([*judge, "--defences", preset, *known]) == 0
        assert capsys.readouterr().out.strip() == said
    assert main([*judge, "--defences", "recommended", *known[:-1], "1", "--json"]) == 1
    ruling = json.loads(capsys.readouterr().out)
    assert (ruling["preset"], ruling["accepted"], ruling["usable"]) == ("recommended", False, True)
    assert [finding["check"] for finding in ruling["findings"]] == ["start"]
    assert main([*judge, "--defences", "recommended", *known[:-2]]) == 2
    assert capsys.readouterr().err == "polkit: --defences recommended needs --revealed-seed, too\n"
    assert main([*judge, "--defences", "recommended", *known, "--top-q", "2"]) == 2
    assert "--top-q is Algorithm 2's: --defences decides it by itself" in capsys.readouterr().err
    assert main([*judge, "--defences", "paper", "--standards", honest + "/manifest.json", *known[2:]]) == 2
    assert "manifest.json does not hold standards" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prove", "--task", "mnist", "--out", "x"], "there is no task 'mnist'"),
        (["prove", "--epochs", "0", "--out", "x"], "epochs is 0"),
        (["verify", "x", "--calibration", "nowhere.json"], "nowhere.json"),
        (["calibrate", "nowhere", "--out", "x"], "nowhere is not a proof"),
        (
            ["spoof", "--attack", "2", "--weights", "nowhere", "--spoof-steps", "10", "--out", "x"],
            "neither a proof nor",
        ),
        (
            [
                "spoof",
                "--attack",
                "interpolation",
                "--iterations",
                "3",
                "--weights",
                "y",
                "--spoof-steps",
                "9",
                "--out",
                "x",
            ],
            "--iterations belongs to the attacks 1, 2, 3, not to interpolation",
        ),
        (["book", "--only", "99_nothing"], "no chapter is called '99_nothing'; the chapters are 01_primer"),
        (["book", "-p", "spoof_step", "80"], "no chapter has a parameter 'spoof_step'; did you mean spoof_steps?"),
        (["book", "-p", "spoof_steps", "many"], "spoof_steps is of type int, 'many' is not"),
        (["reproduce", "figure-99"], "there is no result 'figure-99'; the results are table-2, table-3"),
        (["reproduce", "--task", "cifar11"], "there is no task 'cifar11'"),
        (["reproduce", "--repeats", "0"], "0 repeats: an average needs at least 1"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("something ran"))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("polkit: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("wrong", [["verify", "x"], ["verify", "x", "--calibration", "c", "--top-q", "0"], [], ["fly"]])
def test_bad_arguments_are_status_2(wrong, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(wrong)
    assert stopped.value.code == 2


@pytest.mark.parametrize("command", [[], ["prove"], ["calibrate"], ["verify"], ["spoof"], ["book"], ["reproduce"]])
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "example" in shown
    assert f"polkit {' '.join(command)}".strip() in shown


def test_an_unusable_calibration_is_one_sentence_and_status_2(workplace, tmp_path, capsys):
    (tmp_path / "c.json").write_text("{")
    assert main(["verify", str(workplace / "honest"), "--calibration", str(tmp_path / "c.json")]) == 2
    error = capsys.readouterr().err
    assert "c.json is not a calibration" in error
    assert error.count("\n") == 1


def test_a_folder_in_place_of_the_calibration_is_status_2_too(workplace, capsys):
    assert main(["verify", str(workplace / "honest"), "--calibration", str(workplace)]) == 2
    assert capsys.readouterr().err.startswith("polkit: ")


def test_a_device_that_does_not_exist_is_status_2_too(tmp_path, capsys):
    assert main(["prove", *SMALL, "--device", "toaster", "--out", str(tmp_path / "proof")]) == 2
    assert capsys.readouterr().err.startswith("polkit: ")


def test_a_dry_run_lists_the_runs_and_makes_none(tmp_path, capsys):
    assert main(["reproduce", "figure-10", "--repeats", "2", "--out", str(tmp_path), "--dry-run"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"8 runs, 0 of them finished before; records in {tmp_path}"
    assert sum(line.startswith("  to do     digits-attack_3-T140-seed") for line in said) == 6
    assert list(tmp_path.iterdir()) == []
