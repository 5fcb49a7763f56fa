"""The command line: polkit prove · calibrate · verify · spoof · book · reproduce · challenge."""

import argparse
import json
import math
import secrets
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import polkit as pk
from polkit.adversary import hidden_crossing
from polkit.book.challenge import (
    ALGORITHM_2,
    NOT_JUDGED,
    VERIFIERS,
    check_possible,
    hand_in,
    kept_path,
    make_challenge,
    open_challenge,
    open_kept,
    score,
    scores_csv,
    scores_text,
)
from polkit.defences import PRESETS, Dispute, Ruling, load_standards, rule, set_standards
from polkit.proof import open_proof, shown, write_text_whole
from polkit.training import AUGMENTATIONS, PARTS, PRECISIONS, Conditions
from polkit.verifier import load_calibration

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

    command = add(
        "prove",
        prove,
        "train a model and record the proof (Algorithm 1)",
        "polkit prove --task digits --seed 0 --out honest",
    )
    add_task_options(command, default="digits")
    command.add_argument("--seed", type=int, default=0, help="of weights, batches and augmentation (default 0)")
    command.add_argument("--out", required=True, help="the folder to write")
    add_conditions(command, "replay")

    command = add(
        "calibrate",
        calibrate,
        "find the threshold δ for the task of an honest proof",
        "polkit calibrate honest --out calibration.json",
    )
    command.add_argument("proof", help="the folder of an honest proof")
    command.add_argument("--out", required=True, help="the JSON file to write")
    command.add_argument("--replays", type=int, default=4, help="independent replays of every interval (default 4)")
    command.add_argument("--margin", type=float, default=1.5, help="δ / largest honest error (default 1.5)")
    command.add_argument("--seed", type=int, default=1, help="of the references and the redrawn augmentation")
    command.add_argument("--workers", type=int, help="threads or processes (default: one per core)")
    command.add_argument("--standards", metavar="FILE", help="write what `verify --defences` needs here, too")
    add_conditions(command, "redraw")

    command = add(
        "verify",
        verify,
        "judge a proof from what is on disk (Algorithm 2)",
        "polkit verify honest --calibration calibration.json --top-q all",
    )
    command.add_argument("proof", help="the folder to judge")
    command.add_argument("--calibration", required=True, help="the file that `polkit calibrate` wrote")
    command.add_argument("--top-q", type=whole_or_all, help="Q per epoch, or all (default 1)")
    command.add_argument("--distances", nargs="+", choices=pk.DISTANCES)
    command.add_argument(
        "--parts", nargs="+", choices=PARTS, help="what must stay within δ (the paper's verifier: weights)"
    )
    command.add_argument("--seed", type=int, default=0, help="of the redrawn augmentation, and of lots")
    command.add_argument("--defences", choices=list(PRESETS), help="a combination of defences beyond Algorithm 2")
    command.add_argument("--standards", metavar="FILE", help="what `polkit calibrate --standards` wrote")
    command.add_argument("--model", help="for --defences: the model in dispute, a proof's folder or a safetensors file")
    command.add_argument("--revealed-seed", type=int, help="for --defences: the seed that the manifest commits to")
    command.add_argument("--workers", type=int, default=1, help="threads or processes to replay in (default 1)")
    command.add_argument("--json", action="store_true", help="print the verdict as JSON")

    command = add(
        "spoof",
        spoof,
        "forge a proof of a model that somebody else trained (Algorithms 3-5)",
        "polkit spoof --attack 2 --weights honest --spoof-steps 160 --out forged",
    )
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
    command.add_argument(
        "--keep-failed",
        action="store_true",
        help="write the spoof even if an optimisation of Attack 1, 2 or 3 misses its aim (it may pass all the same)",
    )
    command.add_argument("--out", required=True, help="the folder to write")
    add_conditions(command, "replay")

    command = add(
        "book",
        book,
        "run the chapters through papermill and print what they found",
        "polkit book --only attack_2 -p spoof_steps 240",
    )
    command.add_argument("--only", action="append", default=[], metavar="CHAPTER", help="part of a chapter's name")
    command.add_argument("--out", default="build/book", help="folder for the executed copies (default build/book)")
    command.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        dest="parameters",
        help="a parameter of the chapters that have it",
    )
    command.add_argument("--store", action="store_true", help="keep the outputs in the chapters themselves too")

    command = add(
        "reproduce",
        reproduce,
        "rebuild the tables and figures of the paper, on this machine or a cluster",
        "polkit reproduce figure-2 figure-5 --repeats 3 --workers 2",
    )
    command.add_argument(
        "results",
        nargs="*",
        metavar="RESULT",
        help="table-2, table-3, figure-2 … figure-12, momentum, or all of these (default); matrix, presets",
    )
    command.add_argument(
        "--task", default="digits", help="one task for all results (default digits), or paper: each result's own"
    )
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
    command.add_argument(
        "--force",
        action="store_true",
        help="make finished runs again (proofs and spoofs still come from $POLKIT_HOME if they lie there)",
    )
    command.add_argument("--dry-run", action="store_true", help="only say which runs there are, and which are finished")
    add_challenge(commands)
    return parser


def prove(options: argparse.Namespace) -> int:
    proof = pk.prove(
        chosen_task(options),
        options.seed,
        out=options.out,
        conditions=chosen_conditions(options),
        progress=sys.stderr.isatty(),
    )
    describe(proof)
    return 0


def calibrate(options: argparse.Namespace) -> int:
    calibration = pk.calibrate(
        pk.open_proof(options.proof),
        conditions=chosen_conditions(options),
        replays=options.replays,
        margin=options.margin,
        seed=options.seed,
        workers=options.workers,
        out=options.out,
        progress=sys.stderr.isatty(),
    )
    for part in PARTS:
        deltas = calibration.normalised(calibration.thresholds[part], part)
        shown = [f"{name} {value:.4f}" if math.isfinite(value) else f"{name} none" for name, value in deltas.items()]
        print(f"δ / d_ref of the {part}: " + ", ".join(shown))
    print(
        f"false rejections: {calibration.false_rejection_rate:.0%} of {calibration.replays} held-out replays, "
        f"{calibration.interval_false_rejection_rate:.2%} of their intervals"
    )
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
        verdict = pk.verify(
            options.proof,
            calibration,
            seed=options.seed,
            workers=options.workers,
            progress=sys.stderr.isatty(),
            **chosen,
        )
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
    return rule(
        options.defences,
        options.proof,
        calibration,
        load_standards(options.standards),
        dispute,
        workers=options.workers,
    )


def spoof(options: argparse.Namespace) -> int:
    task = chosen_task(options)
    wanted = {
        "movement_limit": options.movement_limit,
        "iterations": options.iterations,
        "workers": options.workers,
        "trained_steps": options.trained_steps,
    }
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
        pk.read_weights(options.weights, task),
        task,
        spoof_steps=options.spoof_steps,
        seed=options.seed,
        calibration=calibration,
        conditions=chosen_conditions(options),
        out=options.out,
        progress=sys.stderr.isatty(),
        **settings,
    )
    describe(proof)
    if proof.missed():
        print(f"polkit: {proof.missed()}", file=sys.stderr)
    elif options.attack in OPTIMISED:
        print(f"{len(proof.trace())} of {len(proof.trace())} optimisations reached their aim")
    return 1 if proof.missed() else 0


def book(options: argparse.Namespace) -> int:
    from polkit.book.chapters import run_book

    return 1 if run_book(Path(options.out), options.only, dict(options.parameters), options.store) else 0


def reproduce(options: argparse.Namespace) -> int:
    from polkit.reproduce import reproduce, summarise

    names = ("epochs", "checkpoint_interval", "train_size", "device", "precision", "threads")
    common = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    failed = reproduce(
        options.results or ["all"],
        task=options.task,
        repeats=options.repeats,
        out=Path(options.out),
        common=common,
        lengths=options.spoof_steps,
        scheduler=options.scheduler,
        workers=options.workers,
        force=options.force,
        dry_run=options.dry_run,
    )
    if not options.dry_run:
        summarise(Path(options.out), Path(options.publish) if options.publish else None)
    return 1 if failed else 0


def describe(proof: pk.Proof) -> None:
    spent = ", ".join(f"{value:.6g} {meter.replace('_', ' ')}" for meter, value in asdict(proof.cost()).items())
    print(f"{proof.folder}: {proof.steps} steps, a checkpoint every {proof.checkpoint_interval}\ncost: {spent}")


if __name__ == "__main__":
    sys.exit(main())


EXAMPLES = """examples:
  polkit challenge new honest --out challenge --calibration calibration.json --top-q all
  polkit challenge submit challenge forged --name team-1 --out submissions
  polkit challenge score challenge submissions --out scores.csv
"""


def add_challenge(commands) -> None:
    """commands: what `add_subparsers` returned."""
    about = "a spoofing challenge for a course: publish a model, hand in spoofs of its training, rank them"
    challenge = commands.add_parser(
        "challenge", help=about, description=about, epilog=EXAMPLES, formatter_class=FORMATTER
    )
    example = dict(zip(("new", "submit", "score"), map(str.strip, EXAMPLES.splitlines()[1:]), strict=True))
    inner = challenge.add_subparsers(required=True, metavar="new|submit|score")

    def add(name: str, run, about: str) -> argparse.ArgumentParser:
        command = add_command(inner, name, run, about, example[name])
        command.add_argument("--workers", type=int, default=1, help="threads or processes to replay in (default 1)")
        return command

    command = add("new", new, "make a challenge of an honest proof: a folder to publish, and one to keep")
    command.add_argument(
        "proof",
        help="the folder of an honest proof, its record beside it; of a seed that nobody "
        "guesses, for who knows it makes the very proof",
    )
    command.add_argument("--out", required=True, help="the folder to publish; beside it, OUT.private is to be kept")
    command.add_argument("--defences", choices=VERIFIERS, default=ALGORITHM_2, help="who judges (default algorithm-2)")
    command.add_argument("--top-q", type=whole_or_all, default=1, help="Algorithm 2's Q, or all (default 1)")
    command.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=PARTS,
        help="what Algorithm 2 compares (the paper's: weights; default both)",
    )
    command.add_argument("--calibration", metavar="FILE", help="of `polkit calibrate` (default: made now)")
    command.add_argument(
        "--standards", metavar="FILE", help="of `polkit calibrate --standards`, for a preset (default: made now)"
    )
    command.add_argument("--revealed-seed", type=int, help="of the honest proof, which recommended and all ask for")
    command.add_argument("--title", default="", help="one line")
    command.add_argument("--lots", type=int, help="seed of the verifier's draws, to be kept (default: a random one)")

    command = add("submit", submit, "hand in a proof folder, and see what Algorithm 2 says of it")
    command.add_argument("challenge", help="the published folder")
    command.add_argument("proof", help="the folder to hand in")
    command.add_argument("--name", required=True, help="of the team: letters, digits, - and _")
    command.add_argument("--out", required=True, help="the folder in which NAME is written")
    command.add_argument("--seed", type=int, help="that the folder was made with, if the challenge's verifier asks")

    command = add("score", score_all, "judge all that was handed in, and rank it by cost")
    command.add_argument("challenge", help="the published folder")
    command.add_argument("submissions", help="the folder of what was handed in")
    command.add_argument("--private", metavar="DIR", help="what was kept (default CHALLENGE.private)")
    command.add_argument("--out", default="scores.csv", help="the CSV file to write (default scores.csv)")


def new(options: argparse.Namespace) -> int:
    proof = open_proof(options.proof)
    check_possible(proof, Path(options.out).absolute(), options.defences, options.revealed_seed)
    if options.calibration:
        calibration = load_calibration(options.calibration)
    else:
        calibration = pk.calibrate(proof, conditions=Conditions(augmentation="redraw"), progress=sys.stderr.isatty())
    if options.defences == ALGORITHM_2:
        standards = None
    elif options.standards:
        standards = load_standards(options.standards)
    else:
        standards = set_standards(proof, calibration, workers=options.workers)
    lots = secrets.randbits(63) if options.lots is None else options.lots
    made = make_challenge(
        proof,
        calibration,
        options.out,
        lots=lots,
        title=options.title,
        defences=options.defences,
        top_q=options.top_q,
        parts=tuple(options.parts),
        standards=standards,
        revealed_seed=options.revealed_seed,
        workers=options.workers,
    )
    print(
        f"{made.folder}: to be published, its README.md tells students what to do\n"
        f"{kept_path(made.folder)}: to be kept\n{made.defences} accepts the honest proof"
    )
    return 0


def submit(options: argparse.Namespace) -> int:
    challenge = open_challenge(options.challenge)
    place, judged, no_cost = hand_in(
        challenge, options.proof, options.name, options.out, seed=options.seed, workers=options.workers
    )
    print(f"Algorithm 2, Q = {challenge.top_q}: {judged}")
    if challenge.defences != ALGORITHM_2:
        print(f"the challenge itself is judged by {challenge.defences}, with limits that its lecturer keeps")
    print(f"{place}: to be handed in")
    if no_cost:
        print(f"polkit: without a cost, it ranks behind those that have one: {no_cost}", file=sys.stderr)
    return 0 if judged.accepted else 1


def score_all(options: argparse.Namespace) -> int:
    challenge, out = open_challenge(options.challenge), Path(options.out)
    kept = open_kept(options.private or kept_path(challenge.folder), challenge)
    own = [out.name] if out.parent.resolve() == Path(options.submissions).resolve() else []
    scores = score(
        challenge, kept, options.submissions, apart_from=own, workers=options.workers, progress=sys.stderr.isatty()
    )
    write_text_whole(out, scores_csv(challenge, scores))
    print(f"{shown(challenge.title)}, judged by {challenge.defences}\n\n{scores_text(challenge, scores)}\n\n{out}")
    return 1 if any(one.verdict == NOT_JUDGED for one in scores) else 0


FORMATTER = partial(argparse.RawDescriptionHelpFormatter, max_help_position=32)


def add_command(
    commands, name: str, run: Callable[[argparse.Namespace], int], about: str, example: str
) -> argparse.ArgumentParser:
    """A command among `commands`, what `add_subparsers` returned, whose help ends with an example."""
    command = commands.add_parser(
        name, help=about, description=about, epilog=f"example:\n  {example}", formatter_class=FORMATTER
    )
    command.set_defaults(command=run)
    return command


def add_task_options(command: argparse.ArgumentParser, default: str | None) -> None:
    shown = default or "that of the proof in --weights, else digits"
    command.add_argument(
        "--task",
        default=default,
        help=f"digits, cifar10, cifar100, imagenet10, folder:PATH, "
        f"with :first-half or :second-half if wanted (default {shown})",
    )
    command.add_argument("--epochs", type=int, help="E, instead of the task's own")
    command.add_argument("--checkpoint-interval", type=int, help="k, instead of the task's own")


def add_conditions(command: argparse.ArgumentParser, augmentation: str) -> None:
    command.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, … (default cpu)")
    command.add_argument("--precision", choices=PRECISIONS, default="float32")
    command.add_argument("--threads", type=int, default=1, help="of the CPU (default 1)")
    command.add_argument("--no-onednn", action="store_true", help="without the oneDNN kernels")
    command.add_argument(
        "--compiled",
        action="store_true",
        help="fuse each step with torch.compile: on some CPUs faster for ResNet-20, after a minute",
    )
    command.add_argument(
        "--augmentation",
        choices=AUGMENTATIONS,
        default=augmentation,
        help=f"a replay's: as recorded, or drawn anew (default {augmentation})",
    )


def chosen_conditions(options: argparse.Namespace) -> pk.Conditions:
    return pk.Conditions(
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        onednn=not options.no_onednn,
        augmentation=options.augmentation,
        compiled=options.compiled,
    )


def chosen_task(options: argparse.Namespace) -> pk.Task:
    if options.task is None:
        folder = Path(options.weights)
        task = pk.open_proof(folder).task if folder.is_dir() else pk.task("digits")
        if task.data.startswith("folder:"):
            raise ValueError(f"{folder} says that its images are {task.data!r}, not where: give --task folder:PATH")
    else:
        task = pk.task(options.task)
    wanted = {"epochs": options.epochs, "checkpoint_interval": options.checkpoint_interval}
    return task.replace(**{name: value for name, value in wanted.items() if value is not None})


def whole_or_all(text: str) -> int | str:
    if text != "all" and not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number from 1 up nor `all`")
    return text if text == "all" else int(text)
