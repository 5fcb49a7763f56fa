"""Records, and a batch of them for which all of the paper's claims hold."""

from itertools import product

import polkit as pk
from polkit.book.chapters import parameter_texts, plain_value
from polkit.reproduce import tidy_runs
from polkit.reproduce.records import Record
from polkit.verifier import REGIMES


def record(experiment, parameters, values, status="finished"):
    return Record(experiment, parameters, status, None, values, 2.0, machine={}, versions={}, ended="today")


def notebook_parameters(file):
    """The names in a notebook's `parameters` cell and their values."""
    return {name: plain_value(file, name, text) for name, text in parameter_texts(file).items()}


ERRORS = {
    f"{part}.{q}.{d}": 0.02 for part in ("weights", "buffers") for q in ("one", "most", "all") for d in pk.DISTANCES
}
CURVE = {f"accuracy.{number / 10:.1f}": number / 10 for number in range(11)}
HONEST = {name: 0.03 for name in ERRORS} | CURVE | {"steps": 1000, "cost.wall_seconds": 10.0}
HONEST |= {f"threshold.weights.{distance}": 0.045 for distance in pk.DISTANCES}
SPOOF = ERRORS | CURVE
SPOOF |= {f"{passed}.{q}": True for passed in ("accepted", "within") for q in ("one", "most", "all")}
SPOOF |= {
    "steps": 100,
    "interval": 10,
    "share.wall_seconds": 0.4,
    "share.stored_bytes": 0.1,
    "share.floating_point_operations": 0.05,
    "cost.gradient_evaluations": 31 * 100,
    "cost.wall_seconds": 4.0,
    "loss.before": 0.4,
    "loss.after": 0.04,
    "gradient_squared.before": 60.0,
    "gradient_squared.after": 0.1,
    "loss.before.middle": 0.3,
    "loss.after.middle": 0.03,
    "gradient_squared.before.middle": 6.0,
    "gradient_squared.after.middle": 0.01,
    "batches.treated": 10,
    "batches.all": 100,
    "grey_levels.mean": 1.0,
    "grey_levels.largest": 4.0,
    "psnr.mean": 40.0,
}
SPOOF |= {f"{name}.{when}.deviation": 0.01 for name in ("loss", "gradient_squared") for when in ("before", "after")}


def values_of(attack, steps):
    """What each claim of the paper's would have of a spoof of this attack and length T'."""
    values = SPOOF | {"steps": steps, "share.floating_point_operations": 0.009 * steps}
    if attack == "attack_1":
        values |= {f"weights.most.{d}": 0.9 for d in pk.DISTANCES} | {"share.wall_seconds": 1.0}
    if attack == "attack_2" and steps == 50:
        values |= {"weights.all.linf": 0.05, "weights.most.linf": 0.05}
    if attack == "attack_3":
        values |= {"share.wall_seconds": 0.1, "cost.gradient_evaluations": 310}
        values["share.floating_point_operations"] = 0.0015 * steps
    return values


def variants_of(attack):
    """name -> the parameters of a run, for each kind of run of this attack that some claim is judged by."""
    variants = {"": {"task": "digits"}}
    if attack != "attack_1":
        variants |= {
            "half": {"task": "digits:first-half", "adversary_half": "second-half"},
            "slow": {"task": "digits", "adversary_precision": "float64"},
            "full": {"task": "digits", "stopping_test": False},
        }
    if attack == "attack_3":
        variants["paced"] = {"task": "digits", "pace": [[0, 0], [0.1, 0.15], [1, 1]]}
    return variants


def batch_of_runs(**changes):
    """A proof and spoofs of every kind for which all of the paper's claims hold; `changes` to values of the spoofs."""
    records = {}
    for task, regime in product(("digits", "digits:first-half"), REGIMES):
        made = {"task": task, "seed": 0, "regime": regime}
        records[f"{task} proof {regime}"] = record("honest", made, HONEST)
    for attack, steps in product(("attack_1", "attack_2", "attack_3"), (50, 100)):
        values = values_of(attack, steps)
        changed = values | {key: value for key, value in changes.items() if key in values}
        for (name, variant), regime in product(variants_of(attack).items(), REGIMES):
            made = {"seed": 0, "attack": attack, "spoof_steps": steps, "regime": regime} | variant
            records[f"{attack} {steps} {name} {regime}"] = record("spoof", made, changed)
    return tidy_runs(records)
