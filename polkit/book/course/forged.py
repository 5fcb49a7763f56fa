"""What every exercise that asks for a spoof demands of it first."""

from polkit.defences import ends_at
from polkit.proof import Proof
from polkit.training import Checkpoint


def wrong_spoof(answer: object, final: Checkpoint) -> str:
    """What is wrong with an answer that is to be a spoof of f_{W_T}, or "": a proof, and one that ends at W_T."""
    if not isinstance(answer, Proof):
        return f"The answer must be a proof, as an attack returns it, not {type(answer).__name__}."
    if ends_at(answer, final):
        return "It does not end at W_T: a judge would not take it for a training of the disputed model."
    return ""
