"""The command line of the challenge: polkit-challenge new · submit · score."""

import csv
import sys
from argparse import ArgumentParser
from pathlib import Path

import polkit as pk
from polkit import __main__ as commands
from polkit.__main__ import TEXT, spelled, taken, takes
from polkit.defences import PRESETS, load_standards
from polkit.proof import write_whole
from polkit.proof.storage import require_writable
from polkit.verifier import load_calibration
from polkit_course import challenge as rules

EXAMPLES = """examples:
  polkit-challenge new honest --calibration calibration.json --out challenge
  polkit-challenge submit challenge forged --name team-1 --out submissions
  polkit-challenge score challenge submissions --out scores.csv
exit status: 0 done, 2 bad arguments or files, 130 interrupted"""
OPTIONS = commands.OPTIONS | {
    "challenge": ("the published folder", TEXT),
    "submissions": ("the folder of what was handed in", TEXT),
    "name": ("of the team: letters, digits, - and _", TEXT),
}


@takes("proof calibration out", "defences top_q standards revealed_seed")
def new(proof: str, calibration: str, out: str, **options) -> None:
    """make a challenge, a folder to publish, of a proof whose seed nobody guesses"""
    by_preset = (preset := options.get("defences", rules.ALGORITHM_2)) != rules.ALGORITHM_2
    if by_preset and preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r}; the presets are {', '.join(PRESETS)}")
    whose = "Algorithm 2's: --defences decides it by itself" if by_preset else "a preset's: name it with --defences"
    if odd := [name for name in (("top_q",) if by_preset else ("standards", "revealed_seed")) if name in options]:
        raise ValueError(f"{spelled(odd[0])} is {whose}")
    options |= {name: load_standards(file) for name, file in taken(options, "standards").items()}
    rules.make_challenge(pk.open_proof(proof), load_calibration(calibration), out, **options)
    print(f"{out}: to be published, its README.md tells students what to do")


@takes("challenge proof name out", "seed")
def submit(challenge: str, proof: str, name: str, out: str, seed: int | None = None) -> None:
    """hand in a proof folder; with the seed that it was made with, if a preset judges"""
    rules.check_team(name)
    rules.hand_in(rules.open_challenge(challenge), pk.open_proof(proof), Path(out, name), seed=seed)
    print(f"{Path(out, name)}: to be handed in")


@takes("challenge submissions", "standards seed workers out")
def score(challenge: str, submissions: str, out: str = "scores.csv", **options) -> None:
    """judge all that was handed in, and rank it by cost"""
    require_writable(Path(out), file=True)
    options |= {name: load_standards(file) for name, file in taken(options, "standards").items()}
    table = rules.score(rules.open_challenge(challenge), Path(submissions), sys.stderr.isatty(), **options)
    write_whole(Path(out), table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC, float_format="%.6g"))
    print(rules.scores_text(table))


def make_parser() -> ArgumentParser:
    about = "A challenge for a course: publish a model, rank the spoofs of its training."
    return commands.parser_of((new, submit, score), OPTIONS, EXAMPLES, prog="polkit-challenge", description=about)


def main(arguments: list[str] | None = None) -> int:
    return commands.main(arguments, make_parser)


if __name__ == "__main__":
    sys.exit(main())
