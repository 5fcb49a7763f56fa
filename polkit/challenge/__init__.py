"""A spoofing challenge for a course: a model whose proof is to be forged, what is handed in, who did it cheapest."""

from polkit.challenge.commands import add_challenge
from polkit.challenge.judging import Judgement, judge, preview
from polkit.challenge.making import make_challenge
from polkit.challenge.published import Challenge, Kept, open_challenge, open_kept
from polkit.challenge.scores import Score, ranked, score, scores_csv, scores_text
from polkit.challenge.submission import claimed_cost, hand_in

__all__ = [
    "Challenge", "Judgement", "Kept", "Score", "add_challenge", "claimed_cost", "hand_in", "judge", "make_challenge",
    "open_challenge", "open_kept", "preview", "ranked", "score", "scores_csv", "scores_text",
]  # fmt: skip
