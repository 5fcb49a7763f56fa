"""The debate's switches: what they put in force together, and what the panel then shows and says."""

import itertools

import pandas as pd
import pytest

from polkit.book import panels
from polkit.book.panels.debate import DATED, SWITCHES, verifiers_of
from polkit.experiments.matrix import COLUMNS, CORRECTED
from tests.drawn import words

FIRST = {switch.name: next(iter(switch.options)) for switch in SWITCHES}


def bars(shown):
    return list(shown.plot.data[0].x)


@pytest.fixture
def shown():
    """Two trainings: II falls to the root alone, III to every interval in one and to the buffers in the other."""
    cells = []
    for seed, folder, verifier in itertools.product(
        (0, 1), ("honest proof", "Attack II", "Attack III"), (CORRECTED, *COLUMNS)
    ):
        falls = (folder, verifier) == ("Attack II", "data committed") or (folder, verifier, seed) in {
            ("Attack III", "every interval", 0),
            ("Attack III", "buffers compared", 1),
        }
        cell = {"task": "digits", "seed": seed, "folder": folder, "defence": verifier}
        cells.append(cell | {"accepted": int(not falls)})
    costs = pd.DataFrame({"folder": ["Attack II", "Attack III"], "floating_point_operations": [0.2, 0.3]})
    return panels.debate_panel(pd.DataFrame(cells), costs)


def test_every_answer_names_verifiers_that_the_matrix_has():
    for switch in SWITCHES:
        for answer in switch.options:
            assert set(verifiers_of(FIRST | {switch.name: answer})) <= {CORRECTED, *COLUMNS}
    assert verifiers_of(FIRST) == [CORRECTED]


def test_with_recorded_augmentation_the_momentum_is_held_to_the_small_threshold():
    chosen = verifiers_of(FIRST | {"augmentation": "recorded", "state": "and momentum"})
    assert chosen == [CORRECTED, "augmentation recorded", "recorded, state chained"]


def test_a_spoof_stands_only_in_trainings_where_every_verifier_accepts_it(shown):
    assert bars(shown) == [2, 2, 2]
    assert words(shown.says) == (
        "the honest proof is accepted in 2 of 2 trainings; 2 of 2 spoofs are accepted in one or "
        "more, the cheapest of them Attack II, for 0.2 of the proof's operations."
    )
    shown.sliders["intervals"].value = "all"
    assert bars(shown) == [2, 2, 1]
    shown.sliders["state"].value = "and buffers"
    assert bars(shown) == [2, 2, 0], "one verifier in each training, both together in all"
    shown.sliders["data"].value = "under a root"
    assert bars(shown) == [2, 0, 0]
    assert (
        words(shown.says)
        == "the honest proof is accepted in 2 of 2 trainings; none of the 2 spoofs is accepted in any."
    )
    shown.reset()
    assert bars(shown) == [2, 2, 2]


def test_what_was_made_after_the_theft_has_no_earlier_date(shown):
    shown.sliders["date"].value = DATED
    assert bars(shown) == [2, 0, 0]
