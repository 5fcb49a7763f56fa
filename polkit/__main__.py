"""The command line: polkit prove · calibrate · verify · spoof · book · reproduce."""

import atexit
import math
import os
import secrets
import signal
import sys
import traceback
from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from json import dumps
from pathlib import Path

import polkit as pk
from polkit.adversary import AttackFailed
from polkit.defences import Dispute, load_standards, presets, set_standards
from polkit.experiments.evasion import concatenation, hidden_crossing, non_finite
from polkit.proof import Proof, read_weights
from polkit.proof.storage import require_writable
from polkit.prover import Diverged
from polkit.terminal import IS_COMMAND, unhindered
from polkit.training import PARTS, PRECISIONS, Task, training_points
from polkit.verifier import REGIMES, load_calibration

EXAMPLES = """examples:
  polkit prove --task digits --seed 0 --out honest
  polkit calibrate honest --out calibration.json --standards standards.json
  polkit verify honest --calibration calibration.json --top-q all
  polkit spoof --attack 2 --weights honest --spoof-steps 160 \\
    --calibration calibration.json --out forged
  polkit book --only attack_2 -p spoof_steps 240
  polkit reproduce figure-2 --repeats 3
exit status: 0 done or accepted, 1 rejected or failed,
  2 no usable proof, bad arguments or files, 130 interrupted"""
PERTURBED = "calibration movement_limit leave_within iterations noise_weight weigh_linf draws retries"
PERTURBED += " trained_steps workers keep_failed"
ATTACKS = {  # each with the options that it takes besides those of all
    "1": (pk.attack_1, "calibration iterations keep_failed"),
    "2": (pk.attack_2, PERTURBED),
    "3": (pk.attack_3, PERTURBED),
    "interpolation": (pk.interpolation_only, "trained_steps workers"),
    "infinitesimal": (pk.infinitesimal_update, "workers"),
    "momentum": (pk.borrowed_momentum, ""),
    "blindfold": (pk.blindfold_top_q, ""),
    "concatenation": (concatenation, ""),
    "nan": (non_finite, ""),
    "hidden": (hidden_crossing, ""),
}
TEXT, WHOLE, NUMBER, FLAG = {}, {"type": int}, {"type": float}, {"action": "store_true"}
WHOLE_OR_ALL = {"type": lambda text: int(text) if text.isdecimal() else text}
OPTIONS = {  # what each means, and how it is read
    "proof": ("the folder of a proof", TEXT),
    "results": ("table-2, …, all (default); matrix, presets, examples, examples-fashion, …", {"nargs": "*"}),
    "task": ("digits, fashion, cifar10, cifar100, imagenet10, folder:PATH; :first-half, :second-half may follow", TEXT),
    "epochs": ("E, instead of the task's own", WHOLE),
    "checkpoint_interval": ("k, instead of the task's own", WHOLE),
    "learning_rate": ("η, instead of the task's own; in the regime `paper` a spoof may claim another", NUMBER),
    "train_size": ("training images, instead of the task's own", WHOLE),
    "seed": ("of all that the command draws (of verify a secret one, unless given)", WHOLE),
    "out": ("the folder or file to write", TEXT),
    "device": ("cpu, cuda, cuda:1, … (default cpu)", TEXT),
    "precision": ("of a step (default float32)", {"choices": PRECISIONS}),
    "threads": ("of the CPU (default 1)", WHOLE),
    "onednn": ("without the oneDNN kernels", {"action": "store_false"}),
    "compiled": ("fuse each step with torch.compile: on some CPUs faster for ResNet-20, after a minute", FLAG),
    "regime": ("who judges how (default strict; of verify that of the calibration)", {"choices": list(REGIMES)}),
    "workers": ("threads or processes that share the work", WHOLE),
    "replays": ("independent replays of every interval (default 4)", WHOLE),
    "margin": ("δ / largest honest error (default 1.5)", NUMBER),
    "standards": ("what a preset needs, written by `calibrate`", TEXT),
    "calibration": ("δ, written by `calibrate`; an adversary who has seen it takes a share of it for γ", TEXT),
    "top_q": ("Q, how many updates of each epoch are replayed, or all (default: the regime's)", WHOLE_OR_ALL),
    "defences": ("a preset beyond Algorithm 2: paper, recommended, thorough or all", TEXT),
    "model": ("for a preset: the model in dispute, a proof's folder or a safetensors file", TEXT),
    "revealed_seed": ("for a preset: the seed that the manifest commits to", WHOLE),
    "json": ("print the verdict as JSON", FLAG),
    "attack": (", ".join(ATTACKS), {"choices": list(ATTACKS), "metavar": "ATTACK"}),
    "weights": ("a proof's folder, whose task is the default, or a safetensors file (the calibration's task)", TEXT),
    "spoof_steps": ("T', a multiple of k", WHOLE),
    "movement_limit": ("kγ (Attack 2) or γ (Attack 3) as a share of δ", NUMBER),
    "iterations": ("N, the most L-BFGS iterations (Attacks 1, 2, 3)", WHOLE),
    "leave_within": ("treat an interval only until it ends within this share of δ (Attacks 2, 3)", NUMBER),
    "noise_weight": ("of ‖R‖² beside the squared gradient (Attacks 2, 3)", NUMBER),
    "weigh_linf": ("add the gradient's largest entry to the objective (Attacks 2, 3)", FLAG),
    "draws": ("of the augmentation, over which the objective is averaged (Attacks 2, 3)", WHOLE),
    "retries": ("how often a batch that misses γ is given up for a fresh one (Attacks 2, 3)", WHOLE),
    "trained_steps": ("how many steps are trained before the path (Attacks 2, 3, interpolation)", WHOLE),
    "keep_failed": ("write the spoof even if an optimisation misses its aim; it may pass (Attacks 1, 2, 3)", FLAG),
    "only": ("part of a chapter's name", {"action": "append", "metavar": "CHAPTER"}),
    "p": ("a parameter of the chapters that have it", {"nargs": 2, "action": "append", "metavar": ("NAME", "VALUE")}),
    "repeats": ("trainings from different seeds (default 5)", WHOLE),
    "lengths": ("T', instead of the task's own lengths", {"type": int, "nargs": "+"}),
    "spoof_interval": ("k of the spoofs in the regime `paper`, instead of the prover's", WHOLE),
    "scheduler": ("of a dask cluster (default: one is started here)", {"metavar": "ADDRESS"}),
    "time_limit": ("minutes, after which runs are stopped; the next batch makes those that are left", NUMBER),
    "publish": ("a second folder for the tables alone", {"metavar": "DIR"}),
    "dry_run": ("only say which runs there are, and which are finished", FLAG),
}
ARGUMENTS = ("proof", "results", "challenge", "submissions")  # without dashes; the last two are of polkit-challenge
SPELLED = {"p": "-p", "lengths": "--spoof-steps", "onednn": "--no-onednn"} | {name: name for name in ARGUMENTS}
TASK, DISPUTE = "task epochs checkpoint_interval learning_rate", "standards model revealed_seed"
CONDITIONS = "device precision threads onednn compiled"
RUNS = "epochs checkpoint_interval train_size regime device precision threads"
LAYOUT = {"formatter_class": RawDescriptionHelpFormatter, "argument_default": SUPPRESS}


def takes(required: str, others: str):
    """Puts a command together with the OPTIONS that it must and may be given; what is given is passed to it."""
    return lambda run: (run, required.split(), others.split())


def spelled(name: str) -> str:
    return SPELLED.get(name, f"--{name.replace('_', '-')}")


def taken(options: dict, names: str) -> dict:
    """Those of these options that were given, which it removes from the others."""
    return {name: options.pop(name) for name in names.split() if name in options}


def chosen_task(options: dict, weights: str | None = None) -> Task:
    """weights: a proof's folder, whose task is taken if no other is named, or a file; then it is the calibration's.
    Neither knows where a folder of images lies: `--task folder:PATH` says it, and changes nothing else."""
    named, known = taken(options, TASK), options.get("calibration")
    name = named.pop("task", None)
    task = pk.task("digits" if name is None else name)
    if weights and (known or Path(weights).is_dir()) and (name is None or name.startswith("folder:")):
        own = (pk.open_proof(weights) if Path(weights).is_dir() else load_calibration(known)).task
        if name is None and own.data.startswith("folder:"):
            raise ValueError(f"{weights} is of {own.data!r}: say where its images are with --task folder:PATH")
        placed = {"data": task.data, "half": task.half or own.half, "train_size": min(task.train_size, own.train_size)}
        task = own if name is None else own.replace(**placed)
    return task.replace(**named)


def describe(proof: Proof) -> None:
    spent = ", ".join(f"{value:.6g} {meter.replace('_', ' ')}" for meter, value in asdict(proof.cost()).items())
    print(f"{proof.folder}: {proof.steps} steps, a checkpoint every {proof.checkpoint_interval}\ncost: {spent}")


@takes("out", f"seed {TASK} regime {CONDITIONS}")
def prove(out: str, seed: int = 0, **options) -> None:
    """train a model and record the proof (Algorithm 1)"""
    task = REGIMES[options.pop("regime", "strict")].task(chosen_task(options))
    describe(pk.prove(task, seed, out=out, conditions=pk.Conditions(**options), progress=sys.stderr.isatty()))


@takes("proof out", f"regime replays margin seed workers standards {CONDITIONS}")
def calibrate(proof: str, seed: int = 1, standards: str = "", **options) -> None:
    """find the threshold δ for the task of an honest proof"""
    conditions, honest = pk.Conditions(**taken(options, CONDITIONS)), pk.open_proof(proof)
    if standards:
        if Path(standards).resolve() == Path(options["out"]).resolve():
            raise ValueError(f"{standards} is named for δ and for the standards: give each a file of its own")
        require_writable(Path(standards), file=True)
        training_points(honest.task)  # they are needed, and a folder of images may lie elsewhere
    options |= {name: REGIMES[chosen] for name, chosen in taken(options, "regime").items()}
    options |= {"conditions": conditions, "seed": seed, "progress": sys.stderr.isatty()}
    found = pk.calibrate(honest, **options)
    for part in PARTS:
        deltas = found.normalised(found.thresholds[part], part).items()
        shown = [f"{name} {value:.4f}" if value < math.inf else f"{name} none" for name, value in deltas]
        print(f"δ / d_ref of the {part}: " + ", ".join(shown))
    rejected = f"{found.false_rejection_rate:.0%} of {found.replays} held-out replays"
    print(f"false rejections: {rejected}, {found.interval_false_rejection_rate:.2%} of their intervals")
    if standards:
        set_standards(honest, found, seed=seed, workers=options.get("workers", 1)).save(standards)


@takes("proof calibration", f"regime top_q seed workers defences {DISPUTE} json")
def verify(proof: str, calibration: str, defences: str | None = None, json: bool = False, **options) -> int:
    """judge a proof from what is on disk (Algorithm 2)"""
    known, dispute = load_calibration(calibration), taken(options, DISPUTE)
    seed = options.pop("seed", secrets.randbits(48))  # nobody may foresee it
    if defences is None:
        if dispute:
            raise ValueError(f"{spelled(next(iter(dispute)))} is a preset's: name the preset with --defences")
        options |= {name: REGIMES[chosen] for name, chosen in taken(options, "regime").items()}
        verdict = pk.verify(proof, known, seed=seed, progress=sys.stderr.isatty(), **options)
    else:
        workers = options.pop("workers", 1)
        if options:
            raise ValueError(f"{spelled(next(iter(options)))} is Algorithm 2's: --defences decides it by itself")
        if left := [name for name in DISPUTE.split() if name not in dispute]:
            raise ValueError(f"--defences {defences} needs {spelled(left[0])}, too")
        standards, model = load_standards(dispute["standards"]), read_weights(dispute["model"], known.task)
        claims = Dispute(model, dispute["revealed_seed"], seed)
        verdict = presets.judge(defences, proof, known, standards, claims, workers=workers)
    told = verdict.to_json() | {"seed": seed}
    print(dumps(told, indent=1) if json else f"{verdict}\n  the verifier's draws: --seed {seed}")
    return 0 if verdict.accepted else 1 if verdict.usable else 2


@takes("attack weights spoof_steps out", f"seed {PERTURBED} {TASK} {CONDITIONS}")
def spoof(attack: str, weights: str, seed: int = 1, **options) -> None:
    """forge a proof of a model that somebody else trained (Algorithms 3-5)"""
    forge, special = ATTACKS[attack]
    if odd := sorted(options.keys() - {"spoof_steps", "out", *f"{special} {TASK} {CONDITIONS}".split()}):
        users = ", ".join(other for other, (_, names) in ATTACKS.items() if odd[0] in names.split())
        raise ValueError(f"{spelled(odd[0])} belongs to the attacks {users}, not to {attack}")
    task, conditions = chosen_task(options, weights), pk.Conditions(**taken(options, CONDITIONS))
    if "keep_failed" in special:
        options.setdefault("keep_failed", False)
    options |= {name: load_calibration(file) for name, file in taken(options, "calibration").items()}
    options |= {"seed": seed, "conditions": conditions, "progress": sys.stderr.isatty()}
    proof = forge(read_weights(weights, task), task, **options)
    describe(proof)
    if proof.missed():
        print(f"polkit: {proof.missed()}", file=sys.stderr)
    elif "keep_failed" in special:
        print("every optimisation reached its aim")


@takes("", "only p out")
def book(out: str = "build/book", p: tuple = (), **options) -> int:
    """run the chapters through papermill and print what they found"""
    from polkit.book.chapters import run_book

    return 1 if run_book(Path(out), given=dict(p), **options) else 0


@takes("", f"results task repeats lengths spoof_interval {RUNS} scheduler workers time_limit out publish dry_run")
def reproduce(results: list | None = None, out: str = "build/reproduce", publish: str = "", **options) -> int:
    """rebuild the tables and figures of the paper, on this machine or a cluster"""
    from polkit.reproduce import reproduce, summarise

    if publish:
        require_writable(Path(publish, "runs.csv"))
    failed = reproduce(results or ["all"], out=Path(out), common=taken(options, RUNS), **options)
    if "dry_run" not in options:
        summarise(Path(out), Path(publish) if publish else None)
    return 1 if failed else 0


def parser_of(commands: tuple, options: Mapping[str, tuple[str, dict]], examples: str, **about: str) -> ArgumentParser:
    """options: each that a command may take -> what it means, and how it is read"""
    parser = ArgumentParser(epilog=examples, **about, **LAYOUT)
    group = parser.add_subparsers(required=True, metavar="COMMAND")
    for run, required, others in commands:
        said = {"help": run.__doc__, "description": run.__doc__, "epilog": examples}
        command = group.add_parser(run.__name__, **said, **LAYOUT)
        command.set_defaults(run=run)
        for option in required + others:
            meaning, settings = options[option]
            if option not in ARGUMENTS:
                settings = settings | {"dest": option, "required": option in required}
            command.add_argument(spelled(option), help=meaning, **settings)
    return parser


def make_parser() -> ArgumentParser:
    commands = (prove, calibrate, verify, spoof, book, reproduce)
    return parser_of(commands, OPTIONS, EXAMPLES, prog="polkit", description="Proof-of-learning and how to spoof it.")


def main(arguments: list[str] | None = None, parser: Callable[[], ArgumentParser] = make_parser) -> int:
    """Runs one command; returns its exit status, of which `verify` says 1 only of a proof that it rejected."""
    try:
        if IS_COMMAND:  # all is imported
            signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stdout, sys.stderr = unhindered(sys.stdout), unhindered(sys.stderr)
        options = vars(parser().parse_args(arguments))
        if empty := [name for name in ("out", "standards", "publish") if options.get(name) == ""]:
            raise ValueError(f"{spelled(empty[0])} is empty: name a file or folder to write")
        return options.pop("run")(**options) or 0
    except KeyboardInterrupt:
        print("polkit: interrupted", file=sys.stderr, flush=True)
        if IS_COMMAND:  # Python itself would end by the signal, whatever is returned, if that stopped an `exec`
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            atexit._run_exitfuncs()
            os._exit(130)
        return 130
    except (AttackFailed, Diverged, ValueError, OSError, OverflowError) as error:
        with suppress(OSError):  # of a full disk
            print(f"polkit: {error}", file=sys.stderr, flush=True)
        return 1 if isinstance(error, AttackFailed | Diverged) else 2
    except Exception:  # a fault of polkit's own
        traceback.print_exc()
        return 2
    finally:
        if IS_COMMAND:  # what follows is Python's own end, where Ctrl-C would be a traceback and another status
            signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
