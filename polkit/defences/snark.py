"""One training step proved and verified with ezkl (Halo2): nothing to replay, δ = 0.

A proof states that these weights, on this batch, become those weights. All of it is public: the verifier puts in its
own values and takes nothing from the prover but the bytes of the proof.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from polkit.defences.circuit import Batch, Keys, load_ezkl, step

WAYS = {False: "every multiplication proved", True: "products checked at random points (Freivalds)"}
FIELD = 21888242871839275222246405745257275088548364400416034343698204186575808495617  # order of BN254's scalars


@dataclass(frozen=True)
class ProvenStep:
    """What a prover hands in."""

    before: np.ndarray  # W, int64 (features, classes)
    batch: Batch
    after: np.ndarray  # W', int64 (features, classes)
    proof: bytes  # as ezkl writes it


def prove_step(keys: Keys, before: np.ndarray, batch: Batch) -> ProvenStep:
    """W -> W' with a proof of it. Raises ValueError as `step` does."""
    after = step(keys.circuit, before, batch)
    with tempfile.TemporaryDirectory() as name:
        witness, proof = Path(name, "witness.json"), Path(name, "proof.json")
        if make_witness(keys, before, batch, witness) != _instances(before, batch, after):
            raise RuntimeError("ezkl's step is not the step of polkit.defences.circuit: this ezkl computes otherwise")
        compiled, key, srs = (str(keys.folder / file) for file in ("step.ezkl", "proving.key", "srs"))
        load_ezkl().prove(str(witness), compiled, key, str(proof), srs)
        return ProvenStep(before, batch, after, bytes(json.loads(proof.read_text())["proof"]))


def make_witness(keys: Keys, before: np.ndarray, batch: Batch, file: Path) -> list[str]:
    """Writes every value in the circuit to `file`; returns the public ones: weights, images, targets and W'."""
    inputs = [values.ravel().tolist() for values in (before, batch.images, batch.targets)]
    data = file.with_name("inputs.json")
    data.write_text(json.dumps({"input_data": inputs}))
    load_ezkl().gen_witness(str(data), str(keys.folder / "step.ezkl"), str(file))
    made = json.loads(file.read_text())
    return [value for tensor in (*made["inputs"], *made["outputs"]) for value in tensor]


def proof_holds(keys: Keys, proof: bytes, before: np.ndarray, batch: Batch, after: np.ndarray) -> bool:
    """Whether these bytes prove that a step from `before` on `batch` ends at `after` (ezkl ignores more bytes)."""
    if not (keys.circuit.fits(before, batch) and keys.circuit.fits(after, batch)):
        return False
    files = [keys.folder / name for name in ("settings.json", "verifying.key", "srs")]
    for file in files:  # ezkl raises the same error for a missing file as for a false proof
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: remove {keys.folder} and run setup again")
    with tempfile.TemporaryDirectory() as name:
        stated = Path(name, "proof.json")
        stated.write_text(json.dumps({"instances": [_instances(before, batch, after)], "proof": list(proof)}))
        try:
            return bool(load_ezkl().verify(str(stated), *map(str, files)))
        except RuntimeError:  # how ezkl says no
            return False


def _instances(before: np.ndarray, batch: Batch, after: np.ndarray) -> list[str]:
    """Public values as elements of the field, in ezkl's order and writing: 32 bytes, the least first."""
    values = np.concatenate([part.ravel() for part in (before, batch.images, batch.targets, after)])
    return [(int(value) % FIELD).to_bytes(32, "little").hex() for value in values]


def seconds_per_operation(steps: pd.DataFrame) -> float:
    """What one operation more costs the prover: a least-squares slope over the steps with the most weights.

    steps: the published "snark/steps"
    """
    same = steps[steps["features"] == steps["features"].max()]
    if same["operations"].nunique() < 2:
        raise ValueError("a slope needs steps of one model with two sizes of batch")
    return float(np.polyfit(same["operations"], same["prove_seconds"], 1)[0])
