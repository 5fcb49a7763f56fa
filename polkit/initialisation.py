"""verifyInitialization(): was W_0 drawn from the distribution that the task requires? (Algorithm 2, line 1)"""

import pandas as pd

from polkit.models import Distribution, build_model, initial_buffers, weight_distributions
from polkit.task import Task
from polkit.training import Checkpoint

# An honest W_0 fails one of its Kolmogorov-Smirnov tests once in a thousand proofs, however many layers it has.
FAMILY_SIGNIFICANCE = 1e-3


def test_initialisation(task: Task, first: Checkpoint) -> pd.DataFrame:
    """One row per tensor of W_0: part, tensor, required, p_value, passed.

    Normal and uniform layers take a Kolmogorov-Smirnov test against their own distribution, tensor by tensor;
    layers that start constant, normalisation buffers and momentum must hold exactly their initial value
    (p_value 1 or 0).
    """
    model = build_model(task)
    drawn = weight_distributions(model)
    tested = sum(required.kind != "constant" for required in drawn.values())
    rows = []
    for name, required in drawn.items():
        p_value = _p_value(first.weights[name], required)
        rows.append(("weights", name, f"{required.kind} {required.scale:.3g}", p_value))
    for name, value in initial_buffers(model).items():
        rows.append(
            ("buffers", name, f"constant {value.flatten()[0]:.0f}", float((first.buffers[name] == value).all()))
        )
    for name, value in first.momentum.items():
        rows.append(("momentum", name, "constant 0", float((value == 0).all())))
    frame = pd.DataFrame(rows, columns=["part", "tensor", "required", "p_value"])
    frame["passed"] = frame["p_value"] > FAMILY_SIGNIFICANCE / max(tested, 1)  # NaN does not pass
    return frame


test_initialisation.__test__ = False  # not a test for pytest


def _p_value(value, required: Distribution) -> float:
    from scipy import stats  # takes 1 s to import

    if required.kind == "constant":
        return float((value == required.scale).all())
    if not bool(value.isfinite().all()):
        return 0.0
    sample = value.double().flatten().numpy()
    # A function, not a name with arguments: SciPy 1.18 (Python 3.12) hands the standard normal's those arguments too.
    if required.kind == "normal":
        return float(stats.kstest(sample, lambda x: stats.norm.cdf(x, 0, required.scale)).pvalue)
    return float(stats.kstest(sample, lambda x: stats.uniform.cdf(x, -required.scale, 2 * required.scale)).pvalue)
