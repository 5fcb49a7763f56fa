"""200 mutated proofs, 2,000 more if slow tests run: none raises, and none is accepted that a plain verifier rejects."""

import pytest
import torch
from fuzzing import Fuzz, WrongAcceptance, harmless, make_base, run
from mutations import DUMB, RESEALED, SMART, add_noise, rewrite_the_json

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


MANY = [pytest.param(family, 1000, marks=pytest.mark.slow) for family in ("dumb", "smart")]


@pytest.mark.parametrize(("family", "mutations"), [("smart", 200), *MANY])
def test_no_mutation_raises_and_none_is_wrongly_accepted(base, tmp_path, family, mutations):
    fuzz = Fuzz(*base, tmp_path)
    run(fuzz, family, mutations, number=0)
    assert fuzz.counts.total() >= mutations
    kinds = {kind for _, kind, _ in fuzz.counts}
    assert kinds == {mutate.__name__ for mutate in (DUMB if family == "dumb" else SMART + RESEALED)}
    harmless_kinds = {kind for _, kind, what in fuzz.counts if what == "harmless"}
    assert (rewrite_the_json if family == "dumb" else add_noise).__name__ in harmless_kinds


def test_a_wrong_acceptance_would_be_found(base, tmp_path):
    """Under a δ a million times too large, the verifier accepts what the second one, under the right δ, does not."""
    folder, calibration = base
    blind = Fuzz(folder, calibration, tmp_path, judged_by=calibration.scaled(1e6))
    with pytest.raises(WrongAcceptance):
        run(blind, "smart", 300, number=0)
