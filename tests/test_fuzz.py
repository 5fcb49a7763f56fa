"""200 mutated proofs: none raises, and none is accepted that a plain verifier rejects. `make fuzz` has 10,000."""

import pytest
import torch
from fuzzing import Fuzz, WrongAcceptance, harmless, make_base, run
from mutations import RESEALED, SMART, add_noise

import polkit as pk


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """The verifier uses one anyway; two, for the tensors of mutations, wait for each other where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("fuzz"))


def test_the_base_is_accepted_by_both_verifiers(base):
    folder, calibration = base
    assert pk.verify(folder, calibration, top_q="all").accepted
    assert harmless(folder, calibration.task, calibration)


def test_no_mutation_raises_and_none_is_wrongly_accepted(base, tmp_path):
    fuzz = Fuzz(*base, tmp_path)
    run(fuzz, "smart", 200, number=0)
    assert fuzz.counts.total() >= 200
    kinds = {kind for _, kind, _ in fuzz.counts}
    assert kinds == {mutate.__name__ for mutate in SMART + RESEALED}
    harmless_kinds = {kind for _, kind, what in fuzz.counts if what == "harmless"}
    assert add_noise.__name__ in harmless_kinds


def test_a_wrong_acceptance_would_be_found(base, tmp_path):
    """Under a δ a million times too large, the verifier accepts what the second one, under the right δ, does not."""
    folder, calibration = base
    blind = Fuzz(folder, calibration, tmp_path, judged_by=calibration.scaled(1e6))
    with pytest.raises(WrongAcceptance):
        run(blind, "smart", 300, number=0)
