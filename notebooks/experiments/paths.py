"""The closed form of the window for every training whose spoofs are published: data/results/digits/paths.csv.

`python -m notebooks.experiments.paths` writes it anew, from the proofs in the cache or ones that it makes.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from polkit.experiments.published import published, read_results
from polkit.experiments.window import path_errors, spoof_rows
from polkit.proof import Proof
from polkit.training import DISTANCES, derive_seed
from polkit.training.task import task
from polkit.verifier import Calibration, prepare


def path_rows(proof: Proof, calibration: Calibration, lengths: Sequence[int], seed: int) -> pd.DataFrame:
    """seed, spoof_steps, and the spacing of the path in each distance as a share of d_ref.

    seed: of the training; the path is that of its adversary in `polkit reproduce`, whose seed is the next one
    """
    errors = path_errors(proof.task, proof.final_weights(), lengths, seed=derive_seed(seed + 1, "adversary"))
    errors[list(DISTANCES)] /= pd.Series(calibration.reference["weights"])
    errors.insert(0, "seed", seed)
    return errors


def publish_paths(folder: Path) -> None:
    spoofs, tables = spoof_rows(read_results(folder)["runs"]), []
    for seed, rows in spoofs.groupby("seed"):
        proof, calibration = prepare(task("digits"), int(seed))
        tables.append(path_rows(proof, calibration, sorted(rows["spoof_steps"].unique()), int(seed)))
    pd.concat(tables).to_csv(folder / "paths.csv", index=False, float_format="%.6g")


if __name__ == "__main__":
    publish_paths(published())
