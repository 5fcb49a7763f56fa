"""Steps that torch.compile has fused: the same proof every time, the eager one but for rounding."""

import shutil
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

import polkit as pk
from polkit.__main__ import main
from polkit.training.conditions import applied

COMPILED = pk.Conditions(compiled=True)
can_compile = pytest.mark.skipif(
    not shutil.which("clang++" if sys.platform == "darwin" else "g++")
    or not Path(sysconfig.get_paths()["include"], "Python.h").exists(),
    reason="needs a C++ compiler and Python's C headers",
)


@can_compile
def test_compiled_steps_repeat_bit_for_bit_and_differ_from_eager_ones_by_rounding(
    small_task, small_proof, small_calibration, tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    proofs = [pk.prove(small_task, out=tmp_path / name, conditions=COMPILED, progress=False) for name in "ab"]
    assert proofs[0].digest == proofs[1].digest != small_proof.digest
    assert proofs[0].manifest["conditions"]["compiled"] is True
    assert "compiled" not in small_proof.manifest["conditions"]  # as before there was the choice

    same, eager = (
        pk.verify(proofs[0], replace(small_calibration, conditions=conditions), top_q="all").intervals["error"]
        for conditions in (COMPILED, pk.Conditions())
    )
    assert (same == 0).all()
    weights = pk.distances(proofs[0].checkpoint(4).weights, small_proof.checkpoint(4).weights)
    moved = pk.distances(small_proof.checkpoint(0).weights, small_proof.checkpoint(4).weights)
    assert eager.max() > 0
    assert 0 < weights["l2"] < 1e-3 * moved["l2"]


@can_compile
def test_attacks_differentiate_twice_under_compiled_conditions_too(small_proof, small_calibration, tmp_path):
    spoof = pk.attack_2(
        small_proof.final_weights(),
        small_proof.task,
        spoof_steps=8,
        calibration=small_calibration,
        conditions=COMPILED,
        out=tmp_path / "spoof",
        progress=False,
    )
    assert spoof.counts()["objective"] > 0


def test_without_a_compiler_or_its_headers_one_sentence_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main(["prove", "--compiled", "--out", str(tmp_path / "proof")]) == 2
    assert "need a C++ compiler, and no-such-compiler is not found on this machine" in capsys.readouterr().err
    assert not (tmp_path / "proof").exists()
    monkeypatch.setenv("CXX", sys.executable)  # found, which is all that is asked of it here
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    with pytest.raises(ValueError, match="need Python's C headers, and .*Python.h does not exist"), applied(COMPILED):
        pytest.fail("begun")
