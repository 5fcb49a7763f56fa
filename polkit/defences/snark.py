"""One training step proved and verified (ezkl, Halo2), and a chain of them: nothing to replay, δ = 0.

The statement of a proof: these weights, on this batch, become those weights. All of it is public, and all of it the
verifier puts in itself; from the prover it takes nothing but the bytes of the proof.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polkit.defences.circuit import Batch, Circuit, Keys, load_ezkl, step
from polkit.verifier import Reason

FIELD = 21888242871839275222246405745257275088548364400416034343698204186575808495617  # order of BN254's scalars


@dataclass(frozen=True)
class ProvenStep:
    """What a prover hands in. before, after: weights, int64 (features, classes) · proof: the bytes of ezkl's proof."""

    before: np.ndarray
    batch: Batch
    after: np.ndarray
    proof: bytes


def prove_step(keys: Keys, before: np.ndarray, batch: Batch) -> ProvenStep:
    """W -> W' with a proof of it. Raises ValueError as `step` does."""
    ezkl, after = load_ezkl(), step(keys.circuit, before, batch)
    with tempfile.TemporaryDirectory() as name:
        witness, proof = Path(name, "witness.json"), Path(name, "proof.json")
        made = make_witness(keys, before, batch, witness)
        if made != _instances(before, batch, after, keys.circuit):
            raise RuntimeError(
                "ezkl's step is not the step of polkit.defences.snark: this release of ezkl computes otherwise"
            )
        compiled, key = keys.folder / "step.ezkl", keys.folder / "proving.key"
        ezkl.prove(str(witness), str(compiled), str(key), str(proof), str(keys.folder / "srs"))
        return ProvenStep(before, batch, after, bytes(json.loads(proof.read_text())["proof"]))


def make_witness(keys: Keys, before: np.ndarray, batch: Batch, file: Path) -> list[str]:
    """Every value in the circuit, written to `file`; returns the public ones, weights, images, targets and W'."""
    inputs = [values.ravel().tolist() for values in (before, batch.images, batch.targets(keys.circuit.classes))]
    data = file.with_name("inputs.json")
    data.write_text(json.dumps({"input_data": inputs}))
    load_ezkl().gen_witness(str(data), str(keys.folder / "step.ezkl"), str(file))
    made = json.loads(file.read_text())
    return [value for tensor in (*made["inputs"], *made["outputs"]) for value in tensor]


def verify_step(
    keys: Keys, proven: ProvenStep, before: np.ndarray, batch: Batch, after: np.ndarray
) -> tuple[Reason, ...]:
    """Why a step is rejected; nothing if it is accepted.

    before, batch, after: what the verifier itself holds W, the challenged batch and W' to be. The proof is checked
    for those values, never for the prover's; that they differ is a reason of its own: weights, batch or result.
    """
    reasons = []
    if not np.array_equal(proven.before, before):
        reasons.append(Reason("weights", "the step starts from other weights than the verifier's"))
    if not proven.batch.same(batch):
        reasons.append(Reason("batch", "the step was taken on another batch than the challenged one"))
    if not np.array_equal(proven.after, after):
        reasons.append(Reason("result", "the step ends at other weights than the claimed ones"))
    if not proof_holds(keys, proven.proof, before, batch, after):
        reasons.append(Reason("proof", "the proof does not hold for these weights, this batch and this result"))
    return tuple(reasons)


def proof_holds(keys: Keys, proof: bytes, before: np.ndarray, batch: Batch, after: np.ndarray) -> bool:
    """Whether these bytes prove that a step from `before` on `batch` ends at `after`.

    Bytes behind the proof are not looked at, so one proof can be written in many ways; what it states stays the same.
    """
    ezkl = load_ezkl()
    if not (keys.circuit.fits(before, batch) and keys.circuit.fits(after, batch)):
        return False
    files = [keys.folder / "settings.json", keys.folder / "verifying.key", keys.folder / "srs"]
    for file in files:  # ezkl raises the same error for a missing file as for a false proof
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: remove {keys.folder} and run setup again")
    with tempfile.TemporaryDirectory() as name:
        shown = Path(name, "proof.json")
        instances = _instances(before, batch, after, keys.circuit)
        shown.write_text(json.dumps({"instances": [instances], "proof": list(proof)}))
        try:
            return bool(ezkl.verify(str(shown), *map(str, files)))
        except RuntimeError:  # how ezkl says no
            return False


def prove_chain(keys: Keys, first: np.ndarray, batches: Sequence[Batch]) -> list[ProvenStep]:
    """A step on each batch, each from where the one before has ended."""
    proven: list[ProvenStep] = []
    for batch in batches:
        proven.append(prove_step(keys, proven[-1].after if proven else first, batch))
    return proven


def verify_chain(
    keys: Keys, proven: Sequence[ProvenStep], first: np.ndarray, batches: Sequence[Batch], final: np.ndarray
) -> tuple[Reason, ...]:
    """Whether the proven steps lead on these batches from W_0 = `first` to W_T = `final`; no reason if they do.

    A step must begin with the very numbers with which the one before ended, or there is a gap.
    """
    if len(proven) != len(batches):
        return (Reason("steps", f"{len(proven)} steps were proven, there are {len(batches)} batches"),)
    reasons, before = [], first
    for number, (one, batch) in enumerate(zip(proven, batches, strict=True)):
        if number and not np.array_equal(one.before, before):
            detail = f"step {number} starts from other weights than those at which step {number - 1} ends"
            reasons.append(Reason("gap", detail, number))
            before = one.before  # the proof itself may hold
        after = final if number == len(proven) - 1 else one.after
        found = verify_step(keys, one, before, batch, after)
        reasons += [Reason(reason.kind, f"step {number}: {reason.detail}", number) for reason in found]
        before = one.after
    return tuple(reasons)


def _instances(before: np.ndarray, batch: Batch, after: np.ndarray, circuit: Circuit) -> list[str]:
    """Public values as elements of the field, in ezkl's order and writing: 32 bytes, the least first."""
    values = np.concatenate([part.ravel() for part in (before, batch.images, batch.targets(circuit.classes), after)])
    return [(int(value) % FIELD).to_bytes(32, "little").hex() for value in values]
