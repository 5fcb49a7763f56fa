"""What of a proof's environment changes its bytes: `python tests/reproducibility.py FILE.csv [OTHER_PYTHON …]`.

One row per change: whether the manifest's digest is the same, the first checkpoint that is not, and how far the final
weights then are (l2 / d_ref, d_ref the distance to a training from another seed). Each proof is made by a process of
its own. Rows that another processor has written stay. OTHER_PYTHON: an interpreter with another torch.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

import polkit as pk
from polkit.proof.checkpoints import checkpoint_name
from polkit.reproduce.records import machine

EPOCHS = 20  # of digits: T = 440
MADE = """
import json, os, signal, sys
import polkit as pk
from polkit.training import Learner

out, epochs, seed, conditions, kill_at = sys.argv[1], *map(json.loads, sys.argv[2:])
real = Learner.update

def update(*arguments, step, **named):
    if step == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, step=step, **named)

Learner.update = update
pk.prove(pk.task("digits", epochs=epochs), seed, out=out, conditions=pk.Conditions(**conditions), progress=False)
"""
# name -> the environment's variables, and the Conditions. What the manifest's digest must not depend on:
SAME = {
    "nothing": ({}, {}),
    "working directory": ({}, {}),
    "killed and resumed": ({}, {}),
    "LC_ALL=C": ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {}),
    "TZ=Asia/Kathmandu": ({"TZ": "Asia/Kathmandu"}, {}),
    "PYTHONHASHSEED=1": ({"PYTHONHASHSEED": "1"}, {}),
    "POLKIT_HOME": ({"POLKIT_HOME": "/nonexistent"}, {}),
    "OMP_NUM_THREADS=2": ({"OMP_NUM_THREADS": "2"}, {}),  # `Conditions.threads` decides
}
# What it may depend on: the machine, as far as a variable can make one processor behave like another.
MACHINE = {
    f"{name}={value}": ({name: value}, {})
    for name, value in [
        ("ATEN_CPU_CAPABILITY", "default"),
        ("ATEN_CPU_CAPABILITY", "avx2"),
        ("ATEN_CPU_CAPABILITY", "avx512"),
        ("ONEDNN_MAX_CPU_ISA", "SSE41"),
        ("ONEDNN_MAX_CPU_ISA", "AVX2"),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE"),
        ("MKL_CBWR", "COMPATIBLE"),
        ("MKL_CBWR", "AVX2"),
        ("MKL_ENABLE_INSTRUCTIONS", "SSE4_2"),
        ("ONEDNN_DEFAULT_FPMATH_MODE", "BF16"),
    ]
}
# What the manifest itself names: the digest differs whatever the weights do.
CONDITIONS = {
    "threads 2": ({}, {"threads": 2}),
    "without oneDNN": ({}, {"onednn": False}),
    "float64": ({}, {"precision": "float64"}),
    "bf16": ({}, {"precision": "bf16"}),
    "compiled": ({}, {"compiled": True}),
}


def made(
    place: Path,
    name: str,
    variables: dict,
    conditions: dict,
    *,
    epochs: int = EPOCHS,
    seed: int = 0,
    python: str = sys.executable,
) -> pk.Proof:
    """The proof that a fresh process makes under a changed environment."""
    folder = place / name.replace("/", "-").replace("=", "-").replace(" ", "-")
    folder.mkdir()
    here = Path(pk.__file__).resolve().parent.parent
    known = os.environ | {"PYTHONPATH": str(here)} | variables
    stops = [epochs * 11, None] if name == "killed and resumed" else [None]
    for stop in stops:
        texts = [json.dumps(value) for value in (epochs, seed, conditions, stop)]
        done = subprocess.run(
            [python, "-c", MADE, str(folder / "proof"), *texts],
            env=known,
            check=False,
            cwd=folder if name == "working directory" else here,
        )
        assert (done.returncode == 0) == (stop is None), f"{name}: exit status {done.returncode}"
    return pk.open_proof(folder / "proof")


def compared(first: pk.Proof, other: pk.Proof, reference: float) -> dict:
    names = [checkpoint_name(step) for step in first.checkpoint_steps]
    unlike = [
        step
        for step, name in zip(first.checkpoint_steps, names, strict=True)
        if (first.folder / name).read_bytes() != (other.folder / name).read_bytes()
    ]
    moved = pk.distances(first.final_weights().weights, other.final_weights().weights)["l2"]
    return {
        "same_digest": first.digest == other.digest,
        "same_checkpoints": not unlike,
        "first_unlike": unlike[0] if unlike else "",
        "error_l2": moved / reference,
    }


def changes() -> dict[str, tuple[str, dict, dict]]:
    kinds = {"must not matter": SAME, "machine": MACHINE, "conditions": CONDITIONS}
    return {name: (kind, *what) for kind, all_of in kinds.items() for name, what in all_of.items()}


def main(target: Path, others: list[str]) -> int:
    """Writes the table; 1 if something changed the digest that must not."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="polkit-reproducibility-") as folder:
        place = Path(folder)
        first = made(place, "first", {}, {})
        second = made(place, "another seed", {}, {}, seed=1)
        reference = pk.distances(first.final_weights().weights, second.final_weights().weights)["l2"]
        for name, (kind, variables, conditions) in changes().items():
            found = compared(first, made(place, name, variables, conditions), reference)
            rows.append({"change": name, "kind": kind, **found})
            print(rows[-1], flush=True)
        for number, python in enumerate(others):
            other = made(place, f"other {number}", {}, {}, python=python)
            name = f"torch {other.manifest['versions']['torch']}"
            rows.append({"change": name, "kind": "versions", **compared(first, other, reference)})
            print(rows[-1], flush=True)
        rows.append({"change": "another seed", "kind": "seed", **compared(first, second, reference)})
    table = pd.DataFrame(rows).assign(
        epochs=EPOCHS, torch=first.manifest["versions"]["torch"], processor=machine()["processor"]
    )
    kept = pd.read_csv(target) if target.exists() else table.head(0)
    kept = kept[kept["processor"] != machine()["processor"]]  # what other processors gave stays
    pd.DataFrame([*kept.to_dict("records"), *table.to_dict("records")]).to_csv(target, index=False, float_format="%.3g")
    return 0 if table.loc[table["kind"] == "must not matter", "same_digest"].all() else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
