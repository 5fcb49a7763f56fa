"""The commands polkit challenge new · submit · score."""

import argparse
import secrets
import sys
from pathlib import Path

from polkit.calibration import calibrate, load_calibration
from polkit.challenge.making import check_possible, make_challenge
from polkit.challenge.published import ALGORITHM_2, VERIFIERS, kept_path, open_challenge, open_kept
from polkit.challenge.scores import NOT_JUDGED, score, scores_csv, scores_text
from polkit.challenge.submission import hand_in
from polkit.defences import load_standards, set_standards
from polkit.options import FORMATTER, add_command, whole_or_all
from polkit.proof import open_proof
from polkit.reading import shown
from polkit.training import PARTS, Conditions
from polkit.whole import write_text_whole

EXAMPLES = """examples:
  polkit challenge new honest --out challenge --calibration calibration.json --top-q all
  polkit challenge submit challenge forged --name team-1 --out submissions
  polkit challenge score challenge submissions --out scores.csv
"""


def add_challenge(commands) -> None:
    """commands: what `add_subparsers` returned."""
    about = "a spoofing challenge for a course: publish a model, hand in spoofs of its training, rank them"
    challenge = commands.add_parser("challenge", help=about, description=about, epilog=EXAMPLES,
                                    formatter_class=FORMATTER)  # fmt: skip
    example = dict(zip(("new", "submit", "score"), map(str.strip, EXAMPLES.splitlines()[1:]), strict=True))
    inner = challenge.add_subparsers(required=True, metavar="new|submit|score")

    def add(name: str, run, about: str) -> argparse.ArgumentParser:
        command = add_command(inner, name, run, about, example[name])
        command.add_argument("--workers", type=int, default=1, help="threads or processes to replay in (default 1)")
        return command

    command = add("new", new, "make a challenge of an honest proof: a folder to publish, and one to keep")
    command.add_argument("proof", help="the folder of an honest proof, its record beside it; of a seed that nobody "
                         "guesses, for who knows it makes the very proof")  # fmt: skip
    command.add_argument("--out", required=True, help="the folder to publish; beside it, OUT.private is to be kept")
    command.add_argument("--defences", choices=VERIFIERS, default=ALGORITHM_2, help="who judges (default algorithm-2)")
    command.add_argument("--top-q", type=whole_or_all, default=1, help="Algorithm 2's Q, or all (default 1)")
    command.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS,
                         help="what Algorithm 2 compares (the paper's: weights; default both)")  # fmt: skip
    command.add_argument("--calibration", metavar="FILE", help="of `polkit calibrate` (default: made now)")
    command.add_argument("--standards", metavar="FILE", help="of `polkit calibrate --standards`, for a preset "
                         "(default: made now)")  # fmt: skip
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
        calibration = calibrate(proof, conditions=Conditions(augmentation="redraw"), progress=sys.stderr.isatty())
    if options.defences == ALGORITHM_2:
        standards = None
    elif options.standards:
        standards = load_standards(options.standards)
    else:
        standards = set_standards(proof, calibration, workers=options.workers)
    lots = secrets.randbits(63) if options.lots is None else options.lots
    made = make_challenge(
        proof, calibration, options.out, lots=lots, title=options.title, defences=options.defences,
        top_q=options.top_q, parts=tuple(options.parts), standards=standards, revealed_seed=options.revealed_seed,
        workers=options.workers,
    )  # fmt: skip
    print(f"{made.folder}: to be published, its README.md tells students what to do\n"
          f"{kept_path(made.folder)}: to be kept\n{made.defences} accepts the honest proof")  # fmt: skip
    return 0


def submit(options: argparse.Namespace) -> int:
    challenge = open_challenge(options.challenge)
    place, judged, no_cost = hand_in(challenge, options.proof, options.name, options.out, seed=options.seed,
                                     workers=options.workers)  # fmt: skip
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
    scores = score(challenge, kept, options.submissions, apart_from=own, workers=options.workers,
                   progress=sys.stderr.isatty())  # fmt: skip
    write_text_whole(out, scores_csv(challenge, scores))
    print(f"{shown(challenge.title)}, judged by {challenge.defences}\n\n{scores_text(challenge, scores)}\n\n{out}")
    return 1 if any(one.verdict == NOT_JUDGED for one in scores) else 0
