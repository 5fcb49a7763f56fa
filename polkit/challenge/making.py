"""Making a challenge out of an honest proof: what is published, what is kept, and what students are told."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from safetensors.torch import save

from polkit.calibration import Calibration
from polkit.challenge.judging import judge
from polkit.challenge.published import (
    ALGORITHM_2,
    FORMAT,
    FORMAT_VERSION,
    SEEDED,
    VERIFIERS,
    Challenge,
    checked_cost,
    kept_path,
    open_challenge,
    open_kept,
)
from polkit.defences import Standards
from polkit.places import fresh_folder, partial_path
from polkit.proof import Proof, file_digest
from polkit.reading import shown
from polkit.task import NAMED_TASKS, Task
from polkit.training import PARTS
from polkit.whole import made_alone, sync, sync_all, write_text_whole, write_whole


def make_challenge(proof: Proof, calibration: Calibration, out: str | Path, *, lots: int, title: str = "",
                   defences: str = ALGORITHM_2, top_q: int | str = 1, parts: Sequence[str] = PARTS,
                   standards: Standards | None = None, revealed_seed: int | None = None,
                   workers: int = 1) -> Challenge:  # fmt: skip
    """Writes `out`, to be published, and `out`.private, to be kept, from an honest proof.

    Of the proof itself only W_T and the prover's note of its cost are published. lots: as in `Kept` · standards: of a
    preset · revealed_seed: of the honest proof, for the presets that ask for one; it is written nowhere. The honest
    proof is judged first, as a folder that is handed in will be. Raises ValueError if it is not accepted, or was made
    for another task than the calibration; FileExistsError if one of the two folders exists.
    """
    folder = Path(os.path.abspath(out))
    kept = kept_path(folder)
    with made_alone(folder):
        check_possible(proof, folder, defences, revealed_seed)
        if (standards is None) != (defences == ALGORITHM_2):
            raise ValueError(f"{defences} {'needs' if standards is None else 'has no'} standards")
        mine, theirs = (task.without_place().to_json() for task in (calibration.task, proof.task))
        if odd := [name for name in mine if mine[name] != theirs[name]]:
            raise ValueError(f"the calibration is for another task than that of {proof.folder}: their {odd[0]} differs")
        public, private = partial_path(folder), partial_path(kept)
        try:
            _write_public(fresh_folder(folder), folder.name, proof, calibration, title, defences, top_q, parts)
            fresh_folder(kept).chmod(0o700)
            _write_private(private, public, lots, standards)
            challenge = open_challenge(public)
            judged = judge(challenge, open_kept(private, challenge), proof.folder, revealed_seed, workers=workers)
            if not judged.accepted:
                raise ValueError(f"the verifier of this challenge does not accept {proof.folder} ({judged.reasons[0]})")
            os.replace(private, kept)  # first: a challenge without it can never be scored
            os.replace(public, folder)
            sync(folder.parent)
        finally:
            for left in (public, private):
                shutil.rmtree(left, ignore_errors=True)
    return replace(challenge, folder=folder)


def check_possible(proof: Proof, folder: Path, defences: str, revealed_seed: int | None) -> None:
    """What can be said before minutes are spent on a calibration; raises as `make_challenge`."""
    if defences not in VERIFIERS:
        raise ValueError(f"there is no verifier {defences!r}; the verifiers are {', '.join(VERIFIERS)}")
    if defences in SEEDED and revealed_seed is None:
        raise ValueError(f"{defences} asks for the seed of a proof, and so for that of the honest one")
    for place in (folder, kept_path(folder)):
        if os.path.lexists(place):
            raise FileExistsError(f"{place} exists already: choose another folder for the challenge, or remove it")
    checked_cost(asdict(proof.cost()), "the record of the proof")


def _write_public(public: Path, name: str, proof: Proof, calibration: Calibration, title: str, defences: str,
                  top_q: int | str, parts: Sequence[str]) -> None:  # fmt: skip
    task = calibration.task.without_place()
    final = proof.final_weights()
    tensors = {f"{part}.{key}": value for part in PARTS for key, value in final.parts()[part].items()}
    write_whole(public / "model.safetensors", save(tensors), durable=False)
    replace(calibration, task=task).save(public / "calibration.json")
    files = {name: file_digest(public / name) for name in ("model.safetensors", "calibration.json")}
    facts = {"format": FORMAT, "format_version": FORMAT_VERSION, "title": title or f"Spoof a training of {task.name}",
             "task": task.to_json(), "defences": defences, "top_q": top_q, "parts": list(parts),
             "honest_cost": asdict(proof.cost()), "files": files}  # fmt: skip
    write_text_whole(public / "challenge.json", json.dumps(facts, indent=1, allow_nan=False))
    write_text_whole(public / "README.md", instructions(open_challenge(public), name))
    sync_all(public)


def _write_private(private: Path, public: Path, lots: int, standards: Standards | None) -> None:
    belongs_to = file_digest(public / "challenge.json")["sha256"]
    facts = {"format": f"{FORMAT}-kept", "format_version": FORMAT_VERSION, "challenge": belongs_to, "lots": lots}
    write_text_whole(private / "kept.json", json.dumps(facts, indent=1))
    if standards is not None:
        standards.save(private / "standards.json")
    sync_all(private)


def instructions(challenge: Challenge, name: str) -> str:
    """README.md of the published folder, which is to be called `name`: Markdown for students."""
    task, cost, seeded = challenge.task, challenge.honest_cost, challenge.defences in SEEDED
    compared = " and ".join(challenge.parts)
    algorithm = f"Algorithm 2 at Q = {challenge.top_q}, which compares {compared} under `calibration.json`"
    if challenge.defences == ALGORITHM_2:
        judged = f"{algorithm}.\nThe seed of its draws stays with the lecturer."
    else:
        judged = (f"polkit's preset `{challenge.defences}`; its limits, and the seed of its draws, stay with the "
                  f"lecturer.\nWhat `submit` shows is not its ruling, but that of {algorithm}.")  # fmt: skip
    seed = " --seed 1" if seeded else ""
    given = "\n`--seed` is the one that you gave `polkit spoof` or `polkit prove` (1 and 0 by default)."
    return f"""# {shown(challenge.title)}

Hand in a folder that claims to be a training of the model in `model.safetensors` and is accepted as one, for less than
that training cost. The task is {task.name}: T = {task.steps:,}, k = {task.checkpoint_interval}. The training took \
{cost.floating_point_operations:.3g} operations,
{cost.gradient_evaluations:,.0f} gradient evaluations and {cost.wall_seconds:.3g} seconds; its proof has \
{cost.stored_bytes:,} bytes.

The verifier is {judged}
The last checkpoint must be the model, to the last bit.

From the folder in which `{name}` lies:

```
{_spoof_line(task, name)}polkit challenge submit {name} forged --name TEAM --out submissions{seed}
```

A team's name has letters, digits, - and _. `submit` says how the folder is judged and writes `submissions/TEAM`, which
is what you hand in.{given if seeded else ''}

For a spoof of your own, in Python:

```python
import json
import polkit as pk

with open("{name}/challenge.json") as file:
    task = pk.Task.from_json(json.load(file)["task"])
model = pk.read_weights("{name}/model.safetensors", task)
calibration = pk.load_calibration("{name}/calibration.json")
```

Accepted folders come first, ordered by the operations that the record beside the folder names. That is its maker's own
claim; T' and the bytes on disk are measured, and stand beside it.
"""


def _spoof_line(task: Task, name: str) -> str:
    """The command that forges a proof of this very task, if options can name it."""
    named = NAMED_TASKS.get(task.data)
    plain = named and named.replace(epochs=task.epochs, checkpoint_interval=task.checkpoint_interval)
    if plain != task:
        return ""
    options = "".join(f" --{option.replace('_', '-')} {getattr(task, option)}"
                      for option in ("epochs", "checkpoint_interval")
                      if getattr(task, option) != getattr(named, option))  # fmt: skip
    steps = min(14, task.steps // task.checkpoint_interval) * task.checkpoint_interval
    return (f"polkit spoof --attack interpolation --task {task.name}{options} \\\n"
            f"  --weights {name}/model.safetensors --spoof-steps {steps} --out forged\n")  # fmt: skip
