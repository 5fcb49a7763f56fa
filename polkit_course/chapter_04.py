"""Exercises of chapter 4, where δ comes from."""

import math

from polkit.experiments.noise import verdict_at_interval
from polkit.proof import Proof, remembered
from polkit.training import PARTS
from polkit.verifier import Calibration, Verdict, worst_ratios
from polkit_course.checking import exercise, wrong_number

WIDER = 5  # times the proof's own k


@exercise("4.1", 1, "Few intervals exceed it, none of them in the second half: there one δ is generous.")
def above_half(answer: object, *, every: Verdict, calibration: Calibration) -> str:
    def above(verdict: Verdict, share: float = 0.5, parts: tuple[str, ...] = PARTS) -> int:
        return int((worst_ratios(verdict, calibration, parts)["ratio"] > share).sum())

    right = above(every)
    # The slider's values are 5% apart, and none of them is one half exactly.
    if answer in range(above(every, 0.51), above(every, 0.49) + 1):
        return ""
    failed = int((~every.under(calibration.scaled(0.5)).intervals["passed"].astype(bool)).sum())
    traps = {
        above(every.at(1)): "That is the count with Q = 1; let every interval be replayed.",
        above(every, parts=("weights",)): "That counts the weights alone; the buffers have a δ of their own.",
        failed: "That counts single comparisons; count each interval once.",
        len(every.intervals["start"].unique()) - right: "That many stay within it.",
    }
    return wrong_number(answer, right, "intervals", traps=traps)


@exercise("4.2", 2, "A δ belongs to one k: rarer checkpoints fail an honest prover, denser ones help a forger.")
def wider_interval(answer: object, *, every: Verdict, proof: Proof, calibration: Calibration) -> str:
    k, columns = WIDER * proof.checkpoint_interval, ["part", "distance", "error"]
    facts = {"proof": proof.digest, "task": calibration.task.to_json(), "conditions": calibration.conditions.to_json()}
    facts |= {"interval": k}  # each answer that a reader tries would repeat the replay
    errors = remembered(lambda: verdict_at_interval(every, proof, calibration, k).intervals[columns], "wider", **facts)
    allowed = [calibration.thresholds[row.part][row.distance] for row in errors.itertuples()]
    own, right = float(worst_ratios(every, calibration)["ratio"].max()), float((errors["error"] / allowed).max())
    traps = {
        own: f"That is the multiple for k = {proof.checkpoint_interval}; press Run with the larger k.",
        WIDER * own: "That would be right if the errors of single steps simply added up; measure it.",
        1 / right: "That is how many of the largest errors fit into δ; turn the fraction over.",
    }
    return wrong_number(answer, right, "times δ", within=0.05, traps=traps)


@exercise("4.3", 1, "One calibration serves many proofs; a verifier who judges a single one pays more than the prover.")
def proofs_to_pay(answer: object, *, calibrating: float, verifying: float) -> str:
    right = math.floor(calibrating / (1 - verifying)) + 1
    too_few = "With so few the verifier still pays as much as the provers or more: each proof must be judged, too."
    traps = {
        right - 1: too_few,
        math.floor(calibrating) + 1: too_few,
        calibrating / (1 - verifying): "That is where the two are equal; how many whole proofs are more than that?",
    }
    return wrong_number(answer, right, "proofs", traps=traps)
