"""A second verifier that says which changes of a proof are harmless, and the loop that holds polkit's against it.

`python tests/fuzzing.py --mutations 10000 --seed 0 --workers 2` is `make fuzz`; tests/test_fuzz.py runs fewer.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import struct
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from mutations import ARRAYS, DUMB, RESEALED, SEALING, SMART, reseal
from safetensors.torch import load_file, save_file
from scipy import stats

import polkit as pk
from polkit.training.data import augment, normalise
from polkit.training.models import build_model, weight_distributions
from polkit.verifier import Calibration


def make_base(folder):
    """The smallest proof that has every file a proof can have (T = 4, k = 2, B = 2), and its calibration: exact replay
    against the δ of redrawn augmentation, so that what is added to a weight is the error that it makes."""
    task = pk.task("digits").replace(train_size=8, batch_size=2, epochs=1, milestones=(1, 2), checkpoint_interval=2)
    proof = pk.prove(task, seed=0, out=folder / "proof", progress=False)
    calibration = pk.calibrate(proof, replays=2, workers=1, out=folder / "c.json", progress=False)
    points = pk.training_points(task)
    save_file({"images": points.images, "labels": points.labels}, proof.folder / "points.safetensors")
    reseal(proof.folder)
    return proof.folder, dataclasses.replace(calibration, conditions=pk.Conditions())


def harmless(folder, task, calibration):
    """A second verifier, as plainly as it can be said: no reading of polkit's, no comparison of polkit's.

    A changed proof that is accepted must pass it too: every digest right, every index and signature right, W_0 as it
    was drawn by the same tests, and each interval, stepped by hand from the recorded checkpoint, within δ.
    """
    manifest = json.loads((folder / "manifest.json").read_text())
    steps, interval = manifest["steps"], manifest["checkpoint_interval"]
    own = {name: value for name, value in manifest["task"].items() if name not in ("data", "half", "train_size")}
    assert own == {name: value for name, value in task.to_json().items() if name in own}
    assert interval == 2
    assert 1 <= steps <= 4
    ends = [*range(0, steps, interval), steps]
    images, labels = _images_and_labels(folder, manifest, task)
    _check_files(folder, manifest, ends)
    batches, seeds = np.load(folder / "batches.npy"), np.load(folder / "augmentation.npy")
    assert batches.shape == (steps, 2)
    for row, signed in zip(batches, np.load(folder / "signatures.npy"), strict=True):
        raw = b"".join(images[int(i)].numpy().tobytes() for i in row)
        raw += b"".join(struct.pack("<q", int(labels[int(i)])) for i in row)
        assert hashlib.sha256(raw).digest() == signed.tobytes()
    states = [load_file(folder / f"checkpoints/{step:08d}.safetensors") for step in ends]
    model = build_model(task)
    _check_initial_state(model, states[0])
    for number, (begin, end) in enumerate(itertools.pairwise(ends)):
        state = {name: value.float().clone() for name, value in states[number].items()}
        for step in range(begin, end):
            chosen = torch.from_numpy(batches[step].astype(np.int64))
            _step_by_hand(task, model, state, images[chosen], labels[chosen], int(seeds[step]))
        for part in ("weights", "buffers"):
            for name, value in _distances_by_hand(states[number + 1], state, part).items():
                assert value <= 1.01 * calibration.thresholds[part][name] + 1e-6, (begin, part, name, value)
    return True


def _images_and_labels(folder, manifest, task):
    """The proof's own, if they travel with it; the task's otherwise."""
    if (folder / "points.safetensors").exists():
        points = load_file(folder / "points.safetensors")
        return points["images"], points["labels"]
    assert manifest["task"]["data"] == task.data
    points = pk.training_points(task)
    return points.images, points.labels


def _check_files(folder, manifest, ends):
    names = {f"checkpoints/{step:08d}.safetensors" for step in ends} | set(ARRAYS)
    if (folder / "points.safetensors").exists():
        names |= {"points.safetensors"}
    there = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir()}
    assert there == names | {"manifest.json"}
    for name in names:
        raw = (folder / name).read_bytes()
        assert manifest["files"][name] == {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}


def _check_initial_state(model, state):
    for name, required in weight_distributions(model).items():
        value = state[f"weights.{name}"].double().numpy().ravel()
        if required.kind == "constant":
            assert (value == required.scale).all()
        else:
            drawn_from = {
                "normal": stats.norm(0, required.scale),
                "uniform": stats.uniform(-required.scale, 2 * required.scale),
            }[required.kind]
            assert stats.kstest(value, drawn_from.cdf).pvalue > 1e-5
    for name, value in state.items():
        if name.startswith("momentum.") or name.endswith("running_mean"):
            assert (value == 0).all()
        if name.endswith("running_var"):
            assert (value == 1).all()


def _distances_by_hand(recorded, replayed, part):
    claimed, reached = (
        np.concatenate([s[n].double().numpy().ravel() for n in sorted(s) if n.startswith(part)])
        for s in (recorded, replayed)
    )
    assert np.isfinite(claimed).all()
    error = np.abs(claimed - reached)
    cosine = 1 - claimed @ reached / (np.linalg.norm(claimed) * np.linalg.norm(reached))
    return {"l1": error.sum(), "l2": np.sqrt((error**2).sum()), "linf": error.max(), "cos": cosine}


def _step_by_hand(task, model, state, images, labels, augmentation_seed):
    weights = {n.partition(".")[2]: v.requires_grad_() for n, v in state.items() if n.startswith("weights.")}
    buffers = {n.partition(".")[2]: v for n, v in state.items() if n.startswith("buffers.")}
    shown = normalise(task, augment(task, images.float() / 255, augmentation_seed))
    model.train()
    loss = F.cross_entropy(torch.func.functional_call(model, weights | buffers, (shown,)), labels)
    for (name, value), slope in zip(weights.items(), torch.autograd.grad(loss, list(weights.values())), strict=True):
        moving = task.momentum * state[f"momentum.{name}"] + slope + task.weight_decay * value.detach()
        state[f"momentum.{name}"] = moving
        state[f"weights.{name}"] = (value - task.learning_rate * moving).detach()
    state |= {f"buffers.{name}": value.detach() for name, value in buffers.items()}


class WrongAcceptance(AssertionError):
    """A changed proof that the verifier accepts and the second one does not."""


@dataclasses.dataclass
class Fuzz:
    """Judges mutations of one base proof, and counts them by kind and by what became of them."""

    base: Path
    calibration: Calibration
    place: Path
    judged_by: Calibration | None = None
    counts: Counter = dataclasses.field(default_factory=Counter)
    last: str = ""

    def judge(self, family, draw):
        mutate = draw(st.sampled_from(DUMB if family == "dumb" else SMART + RESEALED))
        folder = self.place / "copy"
        if folder.exists():
            shutil.rmtree(folder)
        shutil.copytree(self.base, folder)
        before, self.last = _contents(folder), mutate.__name__
        mutate(folder, draw)
        if family == "smart" and mutate not in SEALING and (folder / "manifest.json").is_file():
            with contextlib.suppress(ValueError, AttributeError, TypeError):  # where the manifest is no JSON object now
                reseal(folder)
        # Under the smaller δ a change must be hardly any to be harmless; an exact replay errs by nothing.
        factor = draw(st.sampled_from([1.0, 1e-4]))
        verdict = pk.verify(folder, (self.judged_by or self.calibration).scaled(factor), top_q="all")
        json.dumps(verdict.to_json(), allow_nan=False)
        for reason in verdict.reasons:
            assert str(reason).isprintable(), reason
        if verdict.accepted:
            what = "unchanged" if _contents(folder) == before else "harmless"
            try:
                assert what == "unchanged" or harmless(folder, self.calibration.task, self.calibration.scaled(factor))
            except Exception as error:
                raise WrongAcceptance(f"{mutate.__name__} was accepted: {error!r}") from error
        else:
            what = verdict.reasons[0].kind
        self.counts[family, mutate.__name__, what] += 1


def _contents(folder):
    return {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file() and not file.is_symlink()}


def run(fuzz, family, mutations, number):
    """`mutations` of one family from one seed. Raises at the first crash or wrong acceptance."""

    @seed(number)
    @settings(
        max_examples=mutations,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def judged(data):
        fuzz.judge(family, data.draw)

    judged()


def _worker(family, mutations, number):
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        base, calibration = make_base(Path(place))
        fuzz = Fuzz(base, calibration, Path(place))
        try:
            run(fuzz, family, mutations, number)
        except WrongAcceptance as error:
            return fuzz.counts, "wrong acceptances", repr(error)
        except Exception as error:
            return fuzz.counts, "crashes", f"after {fuzz.last}: {error!r}"
        return fuzz.counts, "", ""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    begun, size = time.perf_counter(), 500
    jobs = [
        ("dumb" if job % 3 == 0 else "smart", size, options.seed * 10**6 + job)
        for job in range(-(-options.mutations // size))
    ]
    counts, failures = Counter(), Counter({"crashes": 0, "wrong acceptances": 0})
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        judged = pool.map(_worker, *zip(*jobs, strict=True))
        for (family, _, number), (found, failure, text) in zip(jobs, judged, strict=True):
            counts += found
            if failure:
                failures[failure] += 1
                print(f"{failure}, {family}, seed {number}: {text}", flush=True)
    by_kind = Counter()
    for (family, kind, what), number in sorted(counts.items()):
        print(f"{family:6} {kind:22} {what:16} {number}")
        by_kind[kind] += number
    accepted = sum(number for (_, _, what), number in counts.items() if what in ("harmless", "unchanged"))
    kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(by_kind.items()))
    failed = ", ".join(f"{number} {failure}" for failure, number in failures.items())
    seconds = time.perf_counter() - begun
    print(f"{sum(counts.values())} mutated proofs in {seconds:.0f} s: {failed}, {accepted} harmless; {kinds}")
    return 1 if failures.total() or sum(counts.values()) < options.mutations else 0


if __name__ == "__main__":
    sys.exit(main())
