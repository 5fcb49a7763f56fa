"""The paper's claims beside what the runs measured, each with the rule that decided whether it holds here."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from polkit.book.figures.results import NAMES, chosen
from polkit.experiments.published import paper_data
from polkit.reproduce.records import COMMON
from polkit.training import DISTANCES

Row = tuple[str, bool, str]  # what was measured here · whether the claim holds · the rule


def judged_claims(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per claim of data/paper/claims.csv and task that the runs can judge: claim, place, text, task, paper,
    here, holds, rule.

    runs: from `tidy_runs`. A claim about runs that were not made has no row.
    """
    rows = []
    for task, of_task in beside_proofs(runs).groupby("family", sort=False):
        for known in paper_data("claims").itertuples():
            found = RULES[known.claim](of_task)
            if found is not None:
                here, holds, rule = found
                rows.append(
                    {
                        "claim": known.claim,
                        "place": known.place,
                        "text": known.text,
                        "task": task,
                        "paper": known.paper,
                        "here": here,
                        "holds": bool(holds),
                        "rule": rule,
                    }
                )
    columns = ["claim", "place", "text", "task", "paper", "here", "holds", "rule"]
    return pd.DataFrame(rows, columns=columns)


def beside_proofs(runs: pd.DataFrame) -> pd.DataFrame:
    """Every spoof with the values of its own proof as `proof.…`; family: the task without its half."""
    spoofs, proofs = (runs[runs["experiment"] == kind] for kind in ("spoof", "honest"))
    same = ["task", "seed", *COMMON]
    known = proofs.dropna(axis=1, how="all").drop(columns=["name", "experiment"], errors="ignore")
    renamed = known.rename(columns={name: f"proof.{name}" for name in known.columns if name not in same})
    joined = spoofs.merge(renamed, on=same, how="inner").copy()  # in one piece, for the next column
    return joined.assign(family=joined["task"].str.replace(":first-half", ""))


def usual(runs: pd.DataFrame, attack: str) -> pd.DataFrame:
    """The runs of an attack on the prover's own machine and images, on the straight path."""
    plain = (runs["off_path"] == 0) & ~_other_conditions(runs)
    return runs[(runs["attack"] == attack) & (runs["adversary_half"] == "") & plain]


def _other_conditions(runs: pd.DataFrame) -> pd.Series:
    return (runs["adversary_device"] != "") | (runs["adversary_precision"] != "") | (runs["adversary_threads"] != 0)


def below_proof(runs: pd.DataFrame, distances: tuple[str, ...]) -> pd.Series:
    """T' -> whether the mean error over the repeats is at most the mean of the proofs' in these distances."""
    table = runs.groupby("spoof_steps").mean(numeric_only=True)
    return pd.concat(
        [table[f"weights.all.{name}"] <= table[f"proof.weights.most.{name}"] for name in distances], axis=1
    ).all(axis=1)


def succeeds(runs: pd.DataFrame, verdict: str = "accepted.all") -> pd.Series:
    """T' -> whether every repeat passed with every interval replayed, in fewer seconds than its proof.

    verdict: `accepted.all`, or `within.all` for a verifier that compares the weights alone, as the paper's does.
    """
    won = runs[verdict].astype(bool) & (runs["share.wall_seconds"] < 1)
    return won.groupby(runs["spoof_steps"]).all()


def window_in_words(runs: pd.DataFrame) -> str:
    weights = succeeds(runs, "within.all")
    passed = [str(length) for length in weights.index[weights.to_numpy()]]
    return (
        spoken_lengths(succeeds(runs), runs["proof.steps"].mean())
        + f"; by the weights alone at {', '.join(passed) or 'none'}"
    )


def spoken_lengths(good: pd.Series, steps: float) -> str:
    found = [int(length) for length in good.index[good.to_numpy()]]
    if not found:
        return f"at none of T' = {', '.join(map(str, good.index))}"
    return f"at T' = {', '.join(map(str, found))} of {', '.join(map(str, good.index))} (T = {steps:,.0f})"


def fall(quantity: str) -> Callable[[pd.DataFrame], Row | None]:
    def rule(runs: pd.DataFrame) -> Row | None:
        chosen = usual(runs, "attack_2")
        if chosen.empty or chosen.get(f"{quantity}.before", pd.Series()).dropna().empty:
            return None
        chosen = chosen.dropna(subset=f"{quantity}.before")  # no batch needed treatment
        before, after = chosen[f"{quantity}.before"], chosen[f"{quantity}.after"]
        return (
            f"{before.mean():.3g} to {after.mean():.3g}",
            (after < before).all(),
            "the mean over the treated batches falls in every run of Attack II",
        )

    return rule


def attack_1_fails(runs: pd.DataFrame) -> Row | None:
    chosen = runs[runs["attack"] == "attack_1"]
    if chosen.empty:
        return None
    spoof, proof = ([chosen[f"{of}weights.most.{name}"].mean() for name in DISTANCES] for of in ("", "proof."))
    larger = all((chosen[f"weights.most.{name}"] > chosen[f"proof.weights.most.{name}"]).all() for name in DISTANCES)
    here = f"{', '.join(f'{v:.4f}' for v in spoof)} against {', '.join(f'{v:.4f}' for v in proof)}"
    return here, larger, "larger than the proof's at Q = ⌊S/k⌋ in all four distances and every repeat"


def attack_1_time(runs: pd.DataFrame) -> Row | None:
    chosen = runs[runs["attack"] == "attack_1"]
    if chosen.empty:
        return None
    share = chosen["share.wall_seconds"].mean()
    return (
        f"{share:.2f} of the proof's seconds",
        0.5 <= share <= 1.5,
        "between half and one and a half times the proof's; T' = T was chosen for that, as the paper chose its length",
    )


def errors_always_below(runs: pd.DataFrame) -> Row | None:
    chosen = usual(runs, "attack_2")
    if chosen.empty:
        return None
    good = below_proof(chosen, ("l1", "l2", "cos"))
    return (
        spoken_lengths(good, chosen["proof.steps"].mean()),
        good.all(),
        "largest error, mean of the repeats, at most the proof's at Q = ⌊S/k⌋, at every T' tried",
    )


def linf_needs_length(runs: pd.DataFrame) -> Row | None:
    chosen = usual(runs, "attack_2")
    if chosen["spoof_steps"].nunique() < 2:
        return None
    good = below_proof(chosen, ("linf",))
    return (
        spoken_lengths(good, chosen["proof.steps"].mean()),
        good.iloc[-1] and not good.iloc[0],
        "not at most the proof's at the shortest T' tried, but at the longest",
    )


def errors_below_from(runs: pd.DataFrame) -> Row | None:
    chosen = usual(runs, "attack_3")
    if chosen.empty:
        return None
    good = below_proof(chosen, DISTANCES)
    return (
        spoken_lengths(good, chosen["proof.steps"].mean()),
        good.iloc[-1],
        "largest error at most the proof's in all four distances at the longest T' tried",
    )


def window_of(attack: str) -> Callable[[pd.DataFrame], Row | None]:
    def rule(runs: pd.DataFrame) -> Row | None:
        chosen = usual(runs, attack)
        if chosen.empty:
            return None
        return (
            window_in_words(chosen),
            succeeds(chosen).any(),
            "every repeat accepted, all intervals replayed and all parts compared, in fewer seconds",
        )

    return rule


def third_is_quicker(runs: pd.DataFrame) -> Row | None:
    second, third = (
        usual(runs, attack).groupby("spoof_steps")["share.wall_seconds"].mean() for attack in ("attack_2", "attack_3")
    )
    both = second.index.intersection(third.index)
    if both.empty:
        return None
    ratio = third[both] / second[both]
    here = f"Attack III takes {ratio.min():.2f} to {ratio.max():.2f} times the seconds of Attack II"
    return here, (ratio < 1).all(), "fewer seconds at every T' that both were tried with"


def always_smaller(runs: pd.DataFrame) -> Row | None:
    chosen = runs[runs["attack"].isin(["attack_2", "attack_3"])]
    if chosen.empty:
        return None
    share = chosen["share.stored_bytes"]
    return f"{share.min():.3f} to {share.max():.3f} of the proof's bytes", share.max() < 1, "every run below 1"


def any_q(runs: pd.DataFrame) -> Row | None:
    chosen = runs[runs["attack"].isin(["attack_2", "attack_3"])]
    if chosen.empty:
        return None
    one, most = chosen["accepted.one"].astype(bool), chosen["accepted.most"].astype(bool)
    return (
        f"accepted at Q = 1: {one.sum()} of {len(one)}, at Q = ⌊S/k⌋: {most.sum()}",
        (one == most).all(),
        "the same verdict for both in every run",
    )


def accuracies_follow(runs: pd.DataFrame) -> Row | None:
    chosen = usual(runs, "attack_3")
    names = [name for name in runs.columns if name.startswith("accuracy.")]
    if chosen.empty or not names:
        return None
    gaps = [(chosen[name] - chosen[f"proof.{name}"]).abs().mean() for name in names]
    worst = names[int(np.argmax(gaps))].removeprefix("accuracy.")
    return (
        f"{np.mean(gaps):.3f} apart on average, {max(gaps):.2f} at {worst} of the steps",
        np.mean(gaps) <= 0.1,
        "accuracies at 0, 0.1, …, 1 of the steps differ by at most 0.1 on average",
    )


def halves_work(runs: pd.DataFrame) -> Row | None:
    chosen = runs[(runs["adversary_half"] != "") & runs["attack"].isin(["attack_2", "attack_3"])]
    if chosen.empty:
        return None
    apart = dict(list(chosen.groupby("attack")))
    here = ". ".join(f"{NAMES[attack]} {window_in_words(rows)}" for attack, rows in apart.items())
    good = all(succeeds(rows).any() for rows in apart.values())
    return here, good, "as for the windows, for each attack that was tried"


def slower_hardware(runs: pd.DataFrame) -> Row | None:
    chosen = runs[_other_conditions(runs)]
    if chosen.empty:
        return None
    share = chosen.groupby(["attack", "adversary_precision", "adversary_device"])["share.wall_seconds"].mean()
    here = "; ".join(
        f"{NAMES[attack]}, {' '.join(filter(None, other))}: {value:.2f}" for (attack, *other), value in share.items()
    )
    return f"share of the proof's seconds: {here}", (share < 1).all(), "below 1 under every condition tried"


def changes_invisible(runs: pd.DataFrame) -> Row | None:
    chosen = usual(runs, "attack_3")
    if chosen.empty or "grey_levels.mean" not in chosen:
        return None
    mean, most = chosen["grey_levels.mean"].mean(), chosen["grey_levels.largest"].max()
    here = f"a pixel changes by {mean:.2f} of 255 grey levels on average, by {most:.0f} at most"
    return here, most <= 8, "no pixel moves by more than 8 of 255 levels, the bound usual for adversarial examples"


def same_level(runs: pd.DataFrame) -> Row | None:
    chosen = runs[runs["attack"].isin(["attack_2", "attack_3"]) & runs["accepted.all"].astype(bool)]
    chosen = chosen[(chosen["off_path"] == 0) & ~_other_conditions(chosen)]
    if chosen.empty:
        return None
    longest = (
        (chosen["spoof_steps"] / chosen["share.wall_seconds"] / chosen["proof.steps"]).groupby(chosen["attack"]).mean()
    )
    here = ", ".join(f"{NAMES[attack]} {value:.2f} T" for attack, value in longest.items())
    return (
        f"pays up to {here}, at its seconds per step",
        longest.max() >= 0.5,
        "at least T / 2 for one of the attacks",
    )


def gradients(attack: str, per_step: Callable[[float], float], formula: str) -> Callable[[pd.DataFrame], Row | None]:
    def rule(runs: pd.DataFrame) -> Row | None:
        chosen = usual(runs, attack)
        if chosen.empty:
            return None
        counted = (chosen["cost.gradient_evaluations"] / chosen["steps"]).mean()
        operations = (chosen["share.floating_point_operations"] * chosen["proof.steps"] / chosen["steps"]).mean()
        claimed = per_step(chosen["interval"].mean())
        return (
            f"{counted:.2f} as the paper counts, {operations:.2f} updates' worth of operations",
            operations <= claimed,
            f"operations a step at most {formula} = {claimed:.3g} updates'",
        )

    return rule


RULES: dict[str, Callable[[pd.DataFrame], Row | None]] = {
    "loss-falls": fall("loss"),
    "gradient-falls": fall("gradient_squared"),
    "attack-1-fails": attack_1_fails,
    "attack-1-time": attack_1_time,
    "attack-2-errors": errors_always_below,
    "attack-2-linf": linf_needs_length,
    "attack-2-window": window_of("attack_2"),
    "attack-3-errors": errors_below_from,
    "attack-3-window": window_of("attack_3"),
    "attack-3-wider": third_is_quicker,
    "size": always_smaller,
    "top-q": any_q,
    "accuracy-trend": accuracies_follow,
    "halves": halves_work,
    "hardware": slower_hardware,
    "invisible": changes_invisible,
    "same-level": same_level,
    "cost-2": gradients("attack_2", lambda _: 31.0, "31"),
    "cost-3": gradients("attack_3", lambda k: 31.0 / k, "31/k"),
}


# (quantity, party) of data/paper/tables.csv -> where our averages keep the same
TABLE_2 = {
    ("loss", "before"): "loss.before",
    ("loss", "after"): "loss.after",
    ("squared gradient norm", "before"): "gradient_squared.before",
    ("squared gradient norm", "after"): "gradient_squared.after",
}


TABLE_3 = {(name, "spoof"): f"weights.all.{name}" for name in DISTANCES}


TABLE_3 |= {(name, "proof"): f"weights.most.{name}" for name in DISTANCES}


TABLE_3 |= {("seconds", party): "cost.wall_seconds" for party in ("spoof", "proof")}


def table_beside(averages: pd.DataFrame, place: str, tasks: list[str], spoof_steps: int = 0) -> pd.DataFrame:
    """`Table II` (Attack II at T' = spoof_steps) or `Table III` (Attack I): a row per quantity, as text.

    Columns: (task, before or after; spoof or proof), the paper's tasks first, then `tasks`. Where the spread is known
    it stands after the mean: over the treated batches in Table II, over the repeats in Table III.
    Raises ValueError if these averages have no such spoof of a task.
    """
    known = paper_data("tables")
    printed = known[known["place"] == place]
    columns = {}
    for row in printed.itertuples():
        columns.setdefault((f"{row.task} (paper)", row.party), {})[row.quantity] = _text(row.value, row.deviation)
    attack = {"attack": "attack_2", "spoof_steps": spoof_steps} if place == "Table II" else {"attack": "attack_1"}
    for task in tasks:
        for (quantity, party), value in (TABLE_2 if place == "Table II" else TABLE_3).items():
            maker = {"experiment": "honest"} if party == "proof" else {"experiment": "spoof", **attack}
            rows = chosen(averages, value, task=task, **maker)
            if rows.empty:
                raise ValueError(f"there is no {value} of {maker} on {task} for {place}")
            deviation = rows["deviation"].iloc[0]
            if place == "Table II":
                deviation = chosen(averages, f"{value}.deviation", task=task, **maker)["mean"].iloc[0]
            columns.setdefault((f"{task} (here)", party), {})[quantity] = _text(rows["mean"].iloc[0], deviation)
    return pd.DataFrame(columns)


def filled_tables(averages: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Every table that these averages have the runs for, by name: Table II for each task and T', Table III once."""
    tables = {}
    for row in chosen(averages, "loss.before", experiment="spoof", attack="attack_2").itertuples():
        name = f"table-2-{row.task}-T{row.spoof_steps}"
        tables[name] = table_beside(averages, "Table II", [row.task], row.spoof_steps)
    tried = list(dict.fromkeys(chosen(averages, "weights.all.l2", experiment="spoof", attack="attack_1")["task"]))
    if tried:
        tables["table-3"] = table_beside(averages, "Table III", tried)
    return tables


def _text(value: float, deviation: float) -> str:
    digits = 4 if value < 10 else 1 if value < 1000 else 0
    return f"{value:,.{digits}f}" + ("" if pd.isna(deviation) else f" ± {deviation:.{digits}f}")
