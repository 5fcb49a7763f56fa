"""The paper's claims and tables beside what the runs measured, each claim with the rule that decided whether it holds.

A rule sees the spoofs that its query in RULES chooses, with the values of their proofs as `proof.…`, and what one of
COMPARISONS says. It says what was measured, whether the claim holds, and by which rule; None if these runs cannot tell.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

import pandas as pd

from polkit.book.figures.results import NAMES, chosen
from polkit.experiments.published import paper_data
from polkit.experiments.window import OWN, PROVERS, SAME_MACHINE, beside_proofs
from polkit.training import DISTANCES

Row = tuple[str, bool, str]
COLUMNS = ["claim", "place", "text", "task", "paper", "here_paper", "here_strict", "holds_paper", "holds_strict"]
COLUMNS += ["rule", "strict_besides"]
# How the runs of each regime are read. The paper's verifier compares the weights at Q = ⌊S/k⌋, and costs are counted in
# operations; the strict one compares every part of every interval, and costs are seconds. Errors beside the proof's are
# those at Q = ⌊S/k⌋ of both. Name -> where runs have it.
ERRORS = {f"error.{name}": f"weights.most.{name}" for name in DISTANCES}
ERRORS |= {f"honest.{name}": f"proof.weights.most.{name}" for name in DISTANCES}
PAPER = {"passed": "within.most", "passed_at_one": "within.one", "passed_at_all": "within.all"}
STRICT = {"passed": "accepted.all", "passed_at_one": "accepted.one", "passed_at_all": "accepted.all"}
READINGS = {
    "paper": {**PAPER, "share": "share.floating_point_operations", **ERRORS},
    "strict": {**STRICT, "share": "share.wall_seconds", **ERRORS},
}


def judged_claims(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per claim of data/paper/claims.csv and task that the runs (of `tidy_runs`) can judge, with COLUMNS.

    holds_paper, holds_strict: by the runs of that regime, read as it reads them; None if there are none to judge by
    strict_besides: what the strict regime asks for besides, where it alone says no
    """
    spoofs, rows = beside_proofs(runs), []
    for task, of_task in spoofs.groupby(spoofs["task"].str.replace(":first-half", ""), sort=False):
        seen = {}
        for regime, by in READINGS.items():
            mine = of_task[of_task["regime"] == regime]
            seen[regime] = mine.join(mine.reindex(columns=[*by.values()]).set_axis([*by], axis=1))
        for known in paper_data("claims").itertuples():
            query, rule, besides = RULES[known.claim]
            (here, paper, text), (here_strict, strict, text_strict) = (
                judged(mine, query, rule) for mine in seen.values()
            )
            if text or text_strict:
                told = (known.claim, known.place, known.text, task, known.paper, here, here_strict, paper, strict)
                rows.append((*told, text or text_strict, besides if paper and strict is False else ""))
    return pd.DataFrame(rows, columns=COLUMNS)


def judged(spoofs: pd.DataFrame, query: str, rule: Callable[[pd.DataFrame], Row | None]) -> tuple | None:
    """What a rule says of the spoofs that its query chooses; Nones where there are none, or it cannot tell."""
    settings = spoofs[[name for name in spoofs if name.isidentifier()]]  # pandas would rewrite all the dotted names
    asked = spoofs[settings.eval(query)] if len(spoofs) else spoofs
    here, holds, text = (rule(asked) if len(asked) else None) or ("", None, "")
    return here, None if holds is None else bool(holds), text


def falls(quantity: str, spoofs: pd.DataFrame) -> Row | None:
    """In the middle of the path, where the model has learned something; the whole path is said beside it."""
    names = [f"{quantity}.{when}{where}" for where in (".middle", "") for when in ("before", "after")]
    treated = spoofs.reindex(columns=names).dropna()
    if treated.empty:
        return None
    before, after, *path = treated.astype(float).mean()
    here = f"{before:.3g} to {after:.3g} (on the whole path {path[0]:.3g} to {path[1]:.3g})"
    return here, after <= before / 10, "the mean over 0.3 to 0.5 of the path, and over the repeats, falls tenfold"


def attack_1_fails(spoofs: pd.DataFrame) -> Row:
    names = [f"weights.most.{name}" for name in DISTANCES]
    errors, honest = spoofs[names], spoofs[[f"proof.{name}" for name in names]].set_axis(names, axis=1)
    here = " against ".join(", ".join(f"{value:.4f}" for value in table.mean()) for table in (errors, honest))
    text = "larger than the proof's at Q = ⌊S/k⌋ in all four distances and every repeat"
    return here, (errors > honest).all(axis=None), text


def attack_1_time(spoofs: pd.DataFrame) -> Row:
    share = spoofs["share.wall_seconds"].mean()
    text = "between half and one and a half times the proof's; T' = T was chosen for that, as the paper chose its own"
    return f"{share:.2f} of the proof's seconds", 0.5 <= share <= 1.5, text


def errors_below(distances: tuple[str, ...], lengths: str, spoofs: pd.DataFrame) -> Row | None:
    """Where the largest error, mean of the repeats, is at most the proofs'. lengths: every, longest or not shortest."""
    means = spoofs.groupby("spoof_steps").mean(numeric_only=True)
    both = means.reindex(columns=[f"{whose}.{name}" for whose in ("error", "honest") for name in distances])
    if both.isna().any(axis=None):  # no run to compare with
        return None
    below = [means[f"error.{name}"] <= means[f"honest.{name}"] for name in distances]
    good = pd.concat(below, axis=1).all(axis=1)
    if lengths == "not shortest" and len(good) < 2:
        return None
    text = "largest error, mean of the repeats, at most the proof's at Q = ⌊S/k⌋, "
    holds, where = {
        "every": (good.all(), "at each T' tried"),
        "longest": (good.iloc[-1], "in all four distances at the longest T' tried"),
        "not shortest": (good.iloc[-1] and not good.iloc[0], "not at the shortest T' tried, but at the longest"),
    }[lengths]
    return spoken_lengths(good, spoofs), holds, text + where


def has_a_window(spoofs: pd.DataFrame) -> Row:
    treated = spoofs["batches.treated"].sum() / spoofs["batches.all"].sum()
    here = f"{spoken_lengths(succeeds(spoofs), spoofs)}; {treated:.0%} of their batches perturbed"
    return here, succeeds(spoofs).any(), "every repeat accepted, for less than the proof's cost"


def third_is_quicker(spoofs: pd.DataFrame) -> Row | None:
    """Of spoofs that took all their iterations, and as many in both attacks."""
    seconds = spoofs.pivot_table(index="spoof_steps", columns="attack", values="share.wall_seconds")
    both = seconds.reindex(columns=["attack_2", "attack_3"]).dropna()
    if both.empty:
        return None
    ratio = both["attack_3"] / both["attack_2"]
    here = f"Attack III takes {ratio.min():.2f} to {ratio.max():.2f} times the seconds of Attack II"
    return here, (ratio < 1).all(), "fewer seconds with as many iterations, none of them stopped early"


def always_smaller(spoofs: pd.DataFrame) -> Row:
    share = spoofs["share.stored_bytes"]
    return f"{share.min():.3f} to {share.max():.3f} of the proof's bytes", share.max() < 1, "every run below 1"


def any_q(spoofs: pd.DataFrame) -> Row:
    one, every = (spoofs[name].astype(bool) for name in ("passed_at_one", "passed_at_all"))
    inside = one.groupby([spoofs["attack"], spoofs["spoof_steps"], spoofs["adversary_half"]]).transform("all")
    here = f"{every[inside].sum()} of {inside.sum()} runs inside the window at Q = 1 pass with all intervals replayed"
    return here, inside.any() and every[inside].all(), "every one does (with the k of regime paper ⌊S/k⌋ is 1 itself)"


ACCURATE = "accuracies at 0, 0.1, …, 1 of the steps differ by at most 0.1 on average, on a path that was accepted"


def accuracies_follow(spoofs: pd.DataFrame) -> Row | None:
    """Of the paths that every repeat was accepted with: left at first, as in the paper, or at another pace."""
    spoofs = spoofs[(spoofs["off_path"] > 0) | (spoofs["pace"] != "")]
    names = [name for name in spoofs if name.startswith("accuracy.")]
    if not names or spoofs.empty:
        return None
    own, proofs = (spoofs[[f"{whose}{name}" for name in names]].to_numpy(float) for whose in ("", "proof."))
    ways = spoofs[["spoof_steps", "off_path", "pace", "passed"]].assign(gap=abs(own - proofs).mean(1))
    found = ways.groupby(["spoof_steps", "off_path", "pace"]).agg({"passed": "all", "gap": "mean"})
    good = found[found["passed"].astype(bool)]
    if good.empty:
        return "no path was accepted in every repeat", False, ACCURATE
    best = good["gap"].idxmin()
    way = "faster at first" if best[2] else f"{best[1]:.0%} off it"
    return f"{good['gap'].min():.3f} apart on average (path {way}, T' = {best[0]})", good["gap"].min() <= 0.1, ACCURATE


def halves_work(spoofs: pd.DataFrame) -> Row:
    apart = dict(list(spoofs.groupby("attack")))
    here = ". ".join(f"{NAMES[attack]} {spoken_lengths(succeeds(rows), rows)}" for attack, rows in apart.items())
    good = all(succeeds(rows).any() for rows in apart.values())
    return here, good, "as for the windows, for each attack that was tried"


def slower_hardware(spoofs: pd.DataFrame) -> Row:
    share = spoofs.groupby(["attack", "adversary_precision", "adversary_device"])["share.wall_seconds"].mean()
    shown = [
        f"{NAMES[attack]}, {' '.join(filter(None, on))}: {1 / value:.1f}" for (attack, *on), value in share.items()
    ]
    text = "the slowdown that makes it as slow as the proof, 1 / its share of the seconds, above 1"
    return f"may be so many times slower: {'; '.join(shown)}", (share < 1).all(), text


def changes_invisible(spoofs: pd.DataFrame) -> Row | None:
    """Lossy compression of 8-bit images usually leaves 30 to 50 dB; 30 dB is a root-mean-square change of 8 levels."""
    changed = spoofs.reindex(columns=["grey_levels.mean", "grey_levels.largest", "psnr.mean"]).astype(float).dropna()
    if changed.empty:  # every image was left as it was
        return None
    (mean, _, usual), (_, most, _), ratio = changed.mean(), changed.max(), changed["psnr.mean"].min()
    here = f"a pixel changes by {mean:.2f} of 255 grey levels on average, by {most:.0f} at most; "
    here += f"PSNR of the changed images {usual:.1f} dB on average, {ratio:.1f} in the worst run"
    return here, ratio >= 30, "the mean PSNR of the changed images is at least 30 dB in every run"


def same_level(spoofs: pd.DataFrame) -> Row:
    breaks_even = spoofs["spoof_steps"] / spoofs["share"] / spoofs["proof.steps"]
    longest = breaks_even.groupby(spoofs["attack"]).mean()
    here = ", ".join(f"{NAMES[attack]} {value:.2f} T" for attack, value in longest.items())
    text = "at least T / 2 for one of the attacks; whether a spoof of that length passes was not tried"
    return f"pays up to {here}, at its cost per step", longest.max() >= 0.5, text


def gradients(divide_by_k: bool, spoofs: pd.DataFrame) -> Row:
    counted = (spoofs["cost.gradient_evaluations"] / spoofs["steps"]).mean()
    operations = (spoofs["share.floating_point_operations"] * spoofs["proof.steps"] / spoofs["steps"]).mean()
    formula, claimed = ("31/k", 31 / spoofs["interval"].mean()) if divide_by_k else ("31", 31.0)
    here = f"{counted:.2f} as the paper counts, {operations:.2f} updates' worth of operations"
    return here, operations <= claimed, f"operations a step at most {formula} = {claimed:.3g} updates'"


def succeeds(spoofs: pd.DataFrame) -> pd.Series:
    """T' -> whether every repeat passed for less than its proof cost."""
    return (spoofs["passed"].astype(bool) & (spoofs["share"] < 1)).groupby(spoofs["spoof_steps"]).all()


def spoken_lengths(good: pd.Series, spoofs: pd.DataFrame) -> str:
    tried, found = (", ".join(map(str, lengths)) for lengths in (good.index, good.index[good]))
    if not found:
        return f"at none of T' = {tried}"
    return f"at T' = {found} of {tried} (T = {spoofs['proof.steps'].mean():,.0f})"


FIRST, SECOND, THIRD = (f"attack == 'attack_{number}' and {OWN}" for number in (1, 2, 3))
BOTH = "attack in ['attack_2', 'attack_3']"
FULL = f"stopping_test == False and adversary_half == '' and {SAME_MACHINE}"  # all N iterations for every batch
ALONG = f"{BOTH} and off_path == 0 and pace == '' and stopping_test == True and {SAME_MACHINE}"  # any half's images
BESIDES = "the strict verifier compares the buffers too, replays every interval and decides η; cost is seconds"
RULES: dict[str, tuple[str, Callable[[pd.DataFrame], Row | None], str]] = {
    "loss-falls": (f"attack == 'attack_2' and {FULL}", partial(falls, "loss"), ""),
    "gradient-falls": (f"attack == 'attack_2' and {FULL}", partial(falls, "gradient_squared"), ""),
    "attack-1-fails": (FIRST, attack_1_fails, ""),
    "attack-1-time": (FIRST, attack_1_time, ""),
    "attack-2-errors": (SECOND, partial(errors_below, ("l1", "l2", "cos"), "every"), "η is the prover's there"),
    "attack-2-linf": (SECOND, partial(errors_below, ("linf",), "not shortest"), "η is the prover's there"),
    "attack-2-window": (SECOND, has_a_window, BESIDES),
    "attack-3-errors": (THIRD, partial(errors_below, DISTANCES, "longest"), "η is the prover's there"),
    "attack-3-window": (THIRD, has_a_window, BESIDES),
    "attack-3-wider": (f"{BOTH} and {FULL}", third_is_quicker, ""),
    "size": (BOTH, always_smaller, ""),
    "top-q": (ALONG, any_q, ""),
    "accuracy-trend": (f"attack == 'attack_3' and {PROVERS} and {SAME_MACHINE}", accuracies_follow, BESIDES),
    "halves": (f"{BOTH} and adversary_half != ''", halves_work, BESIDES),
    "hardware": (f"not ({SAME_MACHINE})", slower_hardware, ""),
    "invisible": (f"({THIRD}) or (attack == 'attack_3' and {FULL})", changes_invisible, ""),
    "same-level": (f"{BOTH} and passed == True and off_path == 0 and {SAME_MACHINE}", same_level, BESIDES),
    "cost-2": (f"attack == 'attack_2' and {FULL}", partial(gradients, False), ""),
    "cost-3": (f"attack == 'attack_3' and {FULL}", partial(gradients, True), ""),
}

# (quantity, party) of data/paper/tables.csv -> where our averages keep the same
QUANTITIES = {"loss": "loss", "squared gradient norm": "gradient_squared"}
TABLE_2 = {(name, when): f"{value}.{when}" for name, value in QUANTITIES.items() for when in ("before", "after")}
TABLE_3 = {(name, party): f"weights.most.{name}" for party in ("spoof", "proof") for name in DISTANCES}
TABLE_3 |= {("seconds", party): "cost.wall_seconds" for party in ("spoof", "proof")}


def table_beside(averages: pd.DataFrame, place: str, tasks: list[str], spoof_steps: int = 0) -> pd.DataFrame:
    """`Table II` (Attack II at T' = spoof_steps) or `Table III` (Attack I): a row per quantity, as text.

    Columns: (task, before or after; spoof or proof). The spread after a mean is over the treated batches in Table II,
    over the repeats in Table III. Raises ValueError if these averages have no such spoof of a task.
    """
    columns: dict[tuple[str, str], dict[str, str]] = {}
    for row in paper_data("tables").query("place == @place").itertuples():
        columns.setdefault((f"{row.task} (paper)", row.party), {})[row.quantity] = _text(row.value, row.deviation)
    second = place == "Table II"
    attack = {"attack": "attack_2", "spoof_steps": spoof_steps} if second else {"attack": "attack_1"}
    for task, ((quantity, party), value) in product(tasks, (TABLE_2 if second else TABLE_3).items()):
        maker = {"experiment": "honest"} if party == "proof" else {"experiment": "spoof", **attack}
        rows = chosen(averages, value, task=task, **maker)
        if rows.empty:
            raise ValueError(f"there is no {value} of {maker} on {task} for {place}")
        spread = chosen(averages, f"{value}.deviation", task=task, **maker)["mean"] if second else rows["deviation"]
        columns.setdefault((f"{task} (here)", party), {})[quantity] = _text(rows["mean"].iloc[0], spread.iloc[0])
    return pd.DataFrame(columns)


def filled_tables(averages: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Every table that these averages have the runs for, by name: Table II for each task and T', Table III once."""
    treated = chosen(averages, "loss.before", experiment="spoof", attack="attack_2")
    tables = {
        f"table-2-{task}-T{steps}": table_beside(averages, "Table II", [task], steps)
        for task, steps in zip(treated["task"], treated["spoof_steps"], strict=True)
    }
    tried = chosen(averages, "weights.all.l2", experiment="spoof", attack="attack_1")["task"].unique().tolist()
    return tables | ({"table-3": table_beside(averages, "Table III", tried)} if tried else {})


def _text(value: float, deviation: float) -> str:
    digits = 4 if value < 10 else 1 if value < 1000 else 0
    return f"{value:,.{digits}f}" + ("" if pd.isna(deviation) else f" ± {deviation:.{digits}f}")
