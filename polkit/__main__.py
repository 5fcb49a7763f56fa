"""The command line: polkit prove · calibrate · verify · spoof · book · reproduce · challenge."""

import argparse
import json
import math
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import polkit as pk
from polkit.adversary import hidden_crossing
from polkit.challenge import add_challenge
from polkit.defences import PRESETS, Dispute, Ruling, load_standards, rule, set_standards
from polkit.options import (
    FORMATTER,
    add_command,
    add_conditions,
    add_task_options,
    chosen_conditions,
    chosen_task,
    whole_or_all,
)  # fmt: skip
from polkit.training import PARTS, PRECISIONS

# Each attack and the options that it has besides those of all.
ATTACKS = {
    "1": (pk.attack_1, ("iterations",)),
    "2": (pk.attack_2, ("movement_limit", "iterations", "workers")),
    "3": (pk.attack_3, ("movement_limit", "iterations", "workers")),
    "interpolation": (pk.interpolation_only, ("workers", "trained_steps")),
    "infinitesimal": (pk.infinitesimal_update, ("workers",)),
    "momentum": (pk.borrowed_momentum, ()),
    "blindfold": (pk.blindfold_top_q, ()),
    "concatenation": (pk.concatenation, ()),
    "nan": (pk.non_finite, ()),
    "hidden": (hidden_crossing, ()),
}
OPTIMISED = ("1", "2", "3")  # those that can miss an aim
EXAMPLES = """examples:
  polkit prove --task digits --seed 0 --out honest
  polkit calibrate honest --out calibration.json
  polkit verify honest --calibration calibration.json --top-q all
  polkit calibrate honest --out calibration.json --standards standards.json
  polkit verify honest --calibration calibration.json --defences recommended --standards standards.json \\
    --model honest --revealed-seed 0
  polkit spoof --attack 2 --weights honest --spoof-steps 160 --calibration calibration.json --out forged
  polkit verify forged --calibration calibration.json --top-q all --json
  polkit book --only attack_2 -p spoof_steps 240
  polkit reproduce figure-2 --repeats 3
  polkit challenge new honest --out challenge --calibration calibration.json --top-q all
  polkit challenge submit challenge forged --name team-1 --out submissions
  polkit challenge score challenge submissions

exit status: 0 done or accepted, 1 rejected, or a training, attack, chapter, run or scoring failed, 2 not a usable
proof, bad arguments, or a file that cannot be read or written
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        return options.command(options)
    except (pk.AttackFailed, pk.Diverged) as error:
        print(f"polkit: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"polkit: {error}", file=sys.stderr)
        return 2


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="polkit", description="Proof-of-learning and how to spoof it.", epilog=EXAMPLES, formatter_class=FORMATTER
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = partial(add_command, commands)

    command = add("prove", prove, "train a model and record the proof (Algorithm 1)",
                  "polkit prove --task digits --seed 0 --out honest")  # fmt: skip
    add_task_options(command, default="digits")
    command.add_argument("--seed", type=int, default=0, help="of weights, batches and augmentation (default 0)")
    command.add_argument("--out", required=True, help="the folder to write")
    add_conditions(command, "replay")

    command = add("calibrate", calibrate, "find the threshold δ for the task of an honest proof",
                  "polkit calibrate honest --out calibration.json")  # fmt: skip
    command.add_argument("proof", help="the folder of an honest proof")
    command.add_argument("--out", required=True, help="the JSON file to write")
    command.add_argument("--replays", type=int, default=4, help="independent replays of every interval (default 4)")
    command.add_argument("--margin", type=float, default=1.5, help="δ / largest honest error (default 1.5)")
    command.add_argument("--seed", type=int, default=1, help="of the references and the redrawn augmentation")
    command.add_argument("--workers", type=int, help="threads or processes (default: one per core)")
    command.add_argument("--standards", metavar="FILE", help="write what `verify --defences` needs here, too")
    add_conditions(command, "redraw")

    command = add("verify", verify, "judge a proof from what is on disk (Algorithm 2)",
                  "polkit verify honest --calibration calibration.json --top-q all")  # fmt: skip
    command.add_argument("proof", help="the folder to judge")
    command.add_argument("--calibration", required=True, help="the file that `polkit calibrate` wrote")
    command.add_argument("--top-q", type=whole_or_all, help="Q per epoch, or all (default 1)")
    command.add_argument("--distances", nargs="+", choices=pk.DISTANCES)
    command.add_argument("--parts", nargs="+", choices=PARTS,
                         help="what must stay within δ (the paper's verifier: weights)")  # fmt: skip
    command.add_argument("--seed", type=int, default=0, help="of the redrawn augmentation, and of lots")
    command.add_argument("--defences", choices=list(PRESETS), help="a combination of defences beyond Algorithm 2")
    command.add_argument("--standards", metavar="FILE", help="what `polkit calibrate --standards` wrote")
    command.add_argument("--model", help="for --defences: the model in dispute, a proof's folder or a safetensors file")
    command.add_argument("--revealed-seed", type=int, help="for --defences: the seed that the manifest commits to")
    command.add_argument("--workers", type=int, default=1, help="threads or processes to replay in (default 1)")
    command.add_argument("--json", action="store_true", help="print the verdict as JSON")

    command = add("spoof", spoof, "forge a proof of a model that somebody else trained (Algorithms 3-5)",
                  "polkit spoof --attack 2 --weights honest --spoof-steps 160 --out forged")  # fmt: skip
    command.add_argument("--attack", required=True, choices=list(ATTACKS), help=", ".join(ATTACKS))
    command.add_argument("--weights", required=True, help="a proof's folder, or a safetensors file")
    add_task_options(command, default=None)
    command.add_argument("--spoof-steps", type=int, required=True, help="T', a multiple of k")
    command.add_argument("--seed", type=int, default=1, help="of the adversary's own draws (default 1)")
    command.add_argument("--calibration", help="the verifier's, if the adversary has seen it: γ is a share of its δ")
    command.add_argument("--movement-limit", type=float, help="γ as a share of δ (Attacks 2 and 3)")
    command.add_argument("--iterations", type=int, help="N, the most L-BFGS iterations (Attacks 1, 2 and 3)")
    command.add_argument("--trained-steps", type=int, help="how many steps are trained before the path (interpolation)")
    command.add_argument("--workers", type=int, help="threads that share the intervals (2, 3 and the paths)")
    command.add_argument("--keep-failed", action="store_true", help="write the spoof even if an optimisation of Attack "
                         "1, 2 or 3 misses its aim (it may pass all the same)")  # fmt: skip
    command.add_argument("--out", required=True, help="the folder to write")
    add_conditions(command, "replay")

    command = add("book", book, "run the chapters through papermill and print what they found",
                  "polkit book --only attack_2 -p spoof_steps 240")  # fmt: skip
    command.add_argument("--only", action="append", default=[], metavar="CHAPTER", help="part of a chapter's name")
    command.add_argument("--out", default="build/book", help="folder for the executed copies (default build/book)")
    command.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="parameters",
                         help="a parameter of the chapters that have it")  # fmt: skip
    command.add_argument("--store", action="store_true", help="keep the outputs in the chapters themselves too")

    command = add("reproduce", reproduce, "rebuild the tables and figures of the paper, on this machine or a cluster",
                  "polkit reproduce figure-2 figure-5 --repeats 3 --workers 2")  # fmt: skip
    command.add_argument(
        "results",
        nargs="*",
        metavar="RESULT",
        help="table-2, table-3, figure-2 … figure-12, momentum, or all of these (default); matrix, presets",
    )
    command.add_argument("--task", default="digits", help="one task for all results (default digits), or paper: each "
                         "result's own")  # fmt: skip
    command.add_argument("--repeats", type=int, default=5, help="trainings from different seeds (default 5)")
    command.add_argument("--spoof-steps", type=int, nargs="+", default=[], help="T', instead of the task's own lengths")
    for name, about in (("epochs", "E"), ("checkpoint-interval", "k"), ("train-size", "training images")):
        command.add_argument(f"--{name}", type=int, help=f"{about}, instead of the task's own")
    command.add_argument("--device", help="cpu or cuda (default cpu)")
    command.add_argument("--precision", choices=PRECISIONS)
    command.add_argument("--threads", type=int, help="of the CPU, for each run (default 1)")
    command.add_argument("--scheduler", metavar="ADDRESS", help="of a dask cluster (default: one is started here)")
    command.add_argument("--workers", type=int, help="processes here (default: one per core, or per GPU)")
    command.add_argument("--out", default="build/reproduce", help="folder of the records (default build/reproduce)")
    command.add_argument("--publish", metavar="DIR", help="a second folder for the tables alone")
    command.add_argument("--force", action="store_true", help="make finished runs again (proofs and spoofs "
                         "still come from $POLKIT_HOME if they lie there)")  # fmt: skip
    command.add_argument("--dry-run", action="store_true", help="only say which runs there are, and which are finished")
    add_challenge(commands)
    return parser


def prove(options: argparse.Namespace) -> int:
    proof = pk.prove(chosen_task(options), options.seed, out=options.out, conditions=chosen_conditions(options),
                     progress=sys.stderr.isatty())  # fmt: skip
    describe(proof)
    return 0


def calibrate(options: argparse.Namespace) -> int:
    calibration = pk.calibrate(
        pk.open_proof(options.proof), conditions=chosen_conditions(options), replays=options.replays,
        margin=options.margin, seed=options.seed, workers=options.workers, out=options.out,
        progress=sys.stderr.isatty(),
    )  # fmt: skip
    for part in PARTS:
        deltas = calibration.normalised(calibration.thresholds[part], part)
        shown = [f"{name} {value:.4f}" if math.isfinite(value) else f"{name} none" for name, value in deltas.items()]
        print(f"δ / d_ref of the {part}: " + ", ".join(shown))
    print(f"false rejections: {calibration.false_rejection_rate:.0%} of {calibration.replays} held-out replays, "
          f"{calibration.interval_false_rejection_rate:.2%} of their intervals")  # fmt: skip
    if options.standards:
        set_standards(pk.open_proof(options.proof), calibration, seed=options.seed).save(options.standards)
    return 0


def verify(options: argparse.Namespace) -> int:
    calibration = pk.load_calibration(options.calibration)
    chosen = {name: getattr(options, name) for name in ("top_q", "distances", "parts")}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if options.defences:
        verdict = ruled(options, calibration, chosen)
    else:
        verdict = pk.verify(options.proof, calibration, seed=options.seed, workers=options.workers,
                            progress=sys.stderr.isatty(), **chosen)  # fmt: skip
    print(json.dumps(verdict.to_json(), indent=1, ensure_ascii=False) if options.json else verdict)
    return 0 if verdict.accepted else 1 if verdict.usable else 2


def ruled(options: argparse.Namespace, calibration: pk.Calibration, chosen: dict) -> Ruling:
    """A preset's ruling in place of a verdict."""
    if chosen:
        raise ValueError(f"--{next(iter(chosen)).replace('_', '-')} is Algorithm 2's: --defences decides it by itself")
    missing = [name for name in ("standards", "model", "revealed_seed") if getattr(options, name) is None]
    if missing:
        raise ValueError(f"--defences {options.defences} needs --{missing[0].replace('_', '-')}, too")
    model = pk.read_weights(options.model, calibration.task)
    dispute = Dispute(model, options.revealed_seed, options.seed)
    return rule(options.defences, options.proof, calibration, load_standards(options.standards), dispute,
                workers=options.workers)  # fmt: skip


def spoof(options: argparse.Namespace) -> int:
    task = chosen_task(options)
    wanted = {"movement_limit": options.movement_limit, "iterations": options.iterations, "workers": options.workers,
              "trained_steps": options.trained_steps}  # fmt: skip
    settings = {name: value for name, value in wanted.items() if value is not None}
    attack, known = ATTACKS[options.attack]
    for name in settings:
        if name not in known:
            users = ", ".join(other for other, (_, options_of) in ATTACKS.items() if name in options_of)
            raise ValueError(f"--{name.replace('_', '-')} belongs to the attacks {users}, not to {options.attack}")
    if options.attack in OPTIMISED:
        settings["keep_failed"] = options.keep_failed
    calibration = pk.load_calibration(options.calibration) if options.calibration else None
    proof = attack(
        pk.read_weights(options.weights, task), task, spoof_steps=options.spoof_steps, seed=options.seed,
        calibration=calibration, conditions=chosen_conditions(options), out=options.out,
        progress=sys.stderr.isatty(), **settings,
    )  # fmt: skip
    describe(proof)
    if proof.missed():
        print(f"polkit: {proof.missed()}", file=sys.stderr)
    elif options.attack in OPTIMISED:
        print(f"{len(proof.trace())} of {len(proof.trace())} optimisations reached their aim")
    return 1 if proof.missed() else 0


def book(options: argparse.Namespace) -> int:
    from polkit.book import run_book

    return 1 if run_book(Path(options.out), options.only, dict(options.parameters), options.store) else 0


def reproduce(options: argparse.Namespace) -> int:
    from polkit.reproduce import reproduce, summarise

    names = ("epochs", "checkpoint_interval", "train_size", "device", "precision", "threads")
    common = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    failed = reproduce(
        options.results or ["all"], task=options.task, repeats=options.repeats, out=Path(options.out), common=common,
        lengths=options.spoof_steps, scheduler=options.scheduler, workers=options.workers, force=options.force,
        dry_run=options.dry_run,
    )  # fmt: skip
    if not options.dry_run:
        summarise(Path(options.out), Path(options.publish) if options.publish else None)
    return 1 if failed else 0


def describe(proof: pk.Proof) -> None:
    spent = ", ".join(f"{value:.6g} {meter.replace('_', ' ')}" for meter, value in asdict(proof.cost()).items())
    print(f"{proof.folder}: {proof.steps} steps, a checkpoint every {proof.checkpoint_interval}\ncost: {spent}")


if __name__ == "__main__":
    sys.exit(main())
