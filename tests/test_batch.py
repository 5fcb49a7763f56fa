"""A batch of runs on a dask cluster: what waits for what, what is resumed, what a failure or a dead worker costs."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import nbformat
import pytest
from dask import config
from nbformat.v4 import new_code_cell, new_notebook

import polkit as pk
from polkit.experiments.published import find_notebooks
from polkit.reproduce import batch as batches
from polkit.reproduce import planned_runs, read_records, reproduce, tidy_runs
from polkit.reproduce.measure import MEASUREMENT_TYPE
from polkit.reproduce.records import read_record
from polkit.reproduce.runs import Run
from tests.batches import notebook_parameters
from tests.pictures import draw_pictures

SMALL = {"epochs": 10, "train_size": 640, "checkpoint_interval": 5}
# A stand-in for an experiment: it leaves a mark when it starts, takes its time, and measures something.
STAND_IN = f"""
import json, os, time
from pathlib import Path
from IPython.display import display
folder = Path(os.environ["POLKIT_TEST_FOLDER"])
orders = json.loads((folder / "orders.json").read_text())
(folder / f"{{attack or 'honest'}}-{{spoof_steps}}-{{seed}}-{{time.time_ns()}}.mark").write_text(str(os.getpid()))
time.sleep(orders.get("pause", 0))
if seed == orders.get("fails") if attack else seed == orders.get("proof_fails"):
    raise RuntimeError("this one fails")
if attack and seed == orders.get("dies"):
    os._exit(1)
display({{"{MEASUREMENT_TYPE}": {{"share.wall_seconds": seed + 0.5}}, "text/plain": ""}}, raw=True)
"""


class StandIns:
    """Experiments that take no time: what they are told, and which were started."""

    def __init__(self, folder):
        self.folder = folder
        self.told()
        (folder / "experiments").mkdir()
        no_spoof = "attack, spoof_steps = '', 0"
        for kind, unset in (("honest", no_spoof), ("prepare", no_spoof), ("spoof", ""), ("presets", no_spoof)):
            defaults = notebook_parameters(find_notebooks() / "experiments" / f"{kind}.ipynb")
            parameters = new_code_cell("\n".join(f"{name} = {value!r}" for name, value in defaults.items()))
            parameters.metadata.tags = ["parameters"]
            stand_in = new_notebook(cells=[parameters, new_code_cell(unset + STAND_IN)])
            stand_in.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
            nbformat.write(stand_in, folder / "experiments" / f"{kind}.ipynb")

    def told(self, **orders):
        (self.folder / "orders.json").write_text(json.dumps(orders))

    def started(self):
        return sorted(file.name.rsplit("-", 1)[0] for file in self.folder.glob("*.mark"))

    def forget(self):
        self.told()
        for file in self.folder.glob("*.mark"):
            file.unlink()


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """The stand-ins, and a dask cluster of two processes, one of which is killed in the end."""
    stand_ins, folder = StandIns(tmp_path_factory.mktemp("stand-ins")), tmp_path_factory.mktemp("dask")
    contact, dask = folder / "scheduler.json", [sys.executable, "-m", "dask"]
    quiet = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "env": os.environ | {"POLKIT_TEST_FOLDER": str(stand_ins.folder)},
    }
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(contact)]
    processes = [subprocess.Popen([*dask, "scheduler", *options], **quiet)]
    try:
        text = wait_for(lambda: contact.exists() and contact.read_text())
        address = json.loads(text)["address"]
        for _ in range(2):
            worker = [*dask, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
            processes.append(subprocess.Popen(worker, **quiet))
        yield stand_ins, address, processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(everything, monkeypatch):
    """The stand-ins, how `reproduce` finds the cluster, and its workers."""
    stand_ins, address, workers = everything
    stand_ins.forget()
    monkeypatch.setattr(batches, "find_notebooks", lambda: stand_ins.folder)
    return stand_ins, {"scheduler": address, "common": {"regime": "strict"}}, workers


def wait_for(found, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not come")


def test_a_batch_runs_once_and_resumes(cluster, tmp_path, capsys):
    stand_ins, where, _ = cluster
    settings = {"repeats": 2, "out": tmp_path} | where
    assert reproduce(["table-2"], dry_run=True, **settings) == 0
    assert "4 runs, 0 of them finished before" in capsys.readouterr().out
    assert stand_ins.started() == []
    assert reproduce(["table-2"], **settings) == 0
    every = ["attack_2-140-0", "attack_2-140-1", "honest-0-0", "honest-0-1"]
    assert stand_ins.started() == every
    said = capsys.readouterr().out
    assert re.search(r"\[4/4\] digits-.*: \d+\.\d s; about 0 s left", said)
    records = read_records(tmp_path)
    assert len(records) == 4
    for record in records.values():
        assert record.finished
        assert record.versions["torch"]
        assert record.machine["cores"] >= 1
        assert record.values == {"share.wall_seconds": record.parameters["seed"] + 0.5}
        assert record.run_seconds > 0
    assert len(list((tmp_path / "notebooks").glob("*.ipynb"))) == 4

    assert reproduce(["table-2"], **settings) == 0  # nothing is left to do
    assert stand_ins.started() == every
    lost = next(name for name in records if "seed1" in name and "attack_2" in name)
    (tmp_path / "records" / f"{lost}.json").unlink()  # as if the batch had been killed before this one
    assert reproduce(["table-2"], **settings) == 0
    assert stand_ins.started() == sorted([*every, "attack_2-140-1"])


@pytest.mark.parametrize("part", ["train", pytest.param("test", marks=pytest.mark.slow)])
def test_records_of_other_pictures_are_not_taken_for_those_of_these(cluster, tmp_path, part, capsys):
    stand_ins, where, _ = cluster
    pets = tmp_path / "pets"
    draw_pictures(pets)
    shutil.copytree(pets / "train", pets / "test")
    settings = {"task": f"folder:{pets}", "repeats": 1, "out": tmp_path / "out"} | where
    for _ in range(2):
        assert reproduce(["momentum"], lengths=[100], **settings) == 0
        assert len(stand_ins.started()) == 2
    capsys.readouterr()
    shutil.copy(pets / "train" / "ant" / "0.png", pets / part / "bee" / "0.png")
    for more in ({}, {"dry_run": True}):
        with pytest.raises(ValueError, match="out has folder-pets-.*, of other pictures of folder:pets: give these an"):
            reproduce(["momentum"], lengths=[100], **settings | more)
    assert capsys.readouterr().out == ""
    assert len(stand_ins.started()) == 2
    assert reproduce(["momentum"], lengths=[100], **settings | {"out": tmp_path / "other"}) == 0
    assert len(stand_ins.started()) == 4


def test_a_failed_run_is_named_and_the_batch_goes_on(cluster, tmp_path, capsys):
    stand_ins, where, _ = cluster
    stand_ins.told(fails=0, dies=1)
    assert reproduce(["table-2"], repeats=3, out=tmp_path, **where) == 2
    said = capsys.readouterr().out
    assert "spoof.ipynb: RuntimeError: this one fails" in said
    assert "spoof.ipynb: DeadKernelError" in said
    assert "4 of 6 runs" in said
    assert len(tidy_runs(read_records(tmp_path))) == 4
    stand_ins.told()
    assert reproduce(["table-2"], repeats=3, out=tmp_path, **where) == 0  # failed ones are tried again, no other
    assert [stand_ins.started().count(f"attack_2-140-{seed}") for seed in range(3)] == [2, 2, 1]


def test_without_its_proof_a_spoof_is_not_tried(cluster, tmp_path, capsys):
    stand_ins, where, _ = cluster
    stand_ins.told(proof_fails=0)
    assert reproduce(["table-2"], repeats=2, out=tmp_path, **where) == 2
    assert stand_ins.started() == ["attack_2-140-1", "honest-0-0", "honest-0-1"]
    told = r"spoof\.ipynb: digits-strict-honest-seed0-\w+, which it needs, failed: RuntimeError: this one fails"
    assert re.search(told, capsys.readouterr().out)
    assert sorted(record.status for record in read_records(tmp_path).values()) == ["failed"] * 2 + ["finished"] * 2


def test_whatever_waits_for_a_failed_run_fails_however_long_the_chain(cluster, tmp_path, capsys):
    stand_ins, where, _ = cluster
    stand_ins.told(proof_fails=0)
    assert reproduce(["table-2", "presets"], repeats=3, out=tmp_path, **where) == 5
    assert stand_ins.started() == ["attack_2-140-1", "attack_2-140-2", "honest-0-0", "honest-0-1", "honest-0-2"]
    common = where["common"] | {"workers": 1}
    first, *others = [run.name for run in planned_runs(["presets"], "digits", 3, common=common)]
    for name in others:
        assert read_record(tmp_path, name).error.startswith(
            f"{first}, which it needs, failed: digits-strict-honest-seed0"
        )
    assert "[9/9]" in capsys.readouterr().out


def test_when_the_time_is_over_runs_are_stopped_and_left_to_the_next_batch(cluster, tmp_path, capsys):
    stand_ins, where, _ = cluster
    settings = {"repeats": 2, "out": tmp_path} | where
    stand_ins.told(pause=600)
    assert reproduce(["table-2"], time_limit=0.1, **settings) == 0
    assert "0 of 4 runs in" in (said := capsys.readouterr().out)
    assert "; the time was over for 4, which the next batch makes" in said
    assert stand_ins.started() == ["honest-0-0", "honest-0-1"]  # and no spoof, though nothing has failed
    assert read_records(tmp_path) == {}
    for mark in stand_ins.folder.glob("*.mark"):
        wait_for(lambda kernel=int(mark.read_text()): not os.path.exists(f"/proc/{kernel}"))
    stand_ins.told()
    assert reproduce(["table-2"], time_limit=10, **settings) == 0
    assert all(record.finished for record in read_records(tmp_path).values())
    assert len(read_records(tmp_path)) == 4


def test_a_run_after_another_waits_for_it_and_not_for_its_success(cluster, tmp_path):
    stand_ins, where, _ = cluster
    stand_ins.told(proof_fails=0, pause=1)
    assert reproduce(["paper-scale"], repeats=1, out=tmp_path, lengths=[10], **where | {"common": None}) == 13
    assert stand_ins.started() == ["honest-0-0", "honest-0-0"]  # the two proofs
    first, second = sorted(int(mark.stem.rsplit("-", 1)[1]) for mark in stand_ins.folder.glob("*.mark"))
    assert second - first > 1e9  # nanoseconds: two workers were free
    errors = [record.error for record in read_records(tmp_path).values()]
    assert sum("which it needs, failed" in error for error in errors) == 11


def test_a_notebook_that_measures_nothing_has_failed(tmp_path):
    source = nbformat.writes(new_notebook(cells=[new_code_cell("1 + 1")]))
    record, _ = batches.execute(Run("spoof", {}), source)
    assert (record.status, record.error) == ("failed", "the notebook ended without a measurement")


@pytest.mark.slow
def test_the_spoof_experiment_trains_as_many_steps_as_it_is_told():
    given = SMALL | {"attack": "interpolation_only", "spoof_steps": 15, "trained_steps": 5, "workers": 1}
    source = (find_notebooks() / "experiments" / "spoof.ipynb").read_text()
    record, _ = batches.execute(Run("spoof", given), source)
    assert record.error is None

    task = pk.task("digits", **SMALL)
    proof, calibration = pk.prepare(task, workers=1, progress=False)
    found = {}
    for trained in (0, 5):
        spoof = pk.interpolation_only(
            proof.final_weights(), task, spoof_steps=15, trained_steps=trained, seed=1, progress=False
        )
        errors = pk.verify(spoof, calibration, top_q="all", workers=1).intervals
        found[trained] = errors.query("part == 'weights' and distance == 'l2'")["normalised_error"].max()
    assert record.values["weights.all.l2"] == found[5] != found[0]


@pytest.mark.slow
def test_a_killed_worker_of_a_running_cluster_costs_only_the_run_it_had(cluster, tmp_path):
    stand_ins, where, workers = cluster
    stand_ins.told(pause=3)

    def kill_one():
        wait_for(lambda: len(stand_ins.started()) >= 3)
        workers[0].send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    assert reproduce(["table-2"], repeats=3, out=tmp_path, **where) == 0
    killer.join()
    assert workers[0].wait(5) == -signal.SIGKILL
    every = [f"{kind}-{seed}" for kind in ("honest-0", "attack_2-140") for seed in range(3)]
    assert set(stand_ins.started()) == set(every)
    assert len(every) <= len(stand_ins.started()) <= len(every) + 1
    records = read_records(tmp_path)
    assert len(records) == len(every)
    assert all(record.finished for record in records.values())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no masks of signals")
def test_the_workers_of_this_machine_never_see_ctrl_c(monkeypatch):
    ask = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"

    def masked(**_):
        return subprocess.check_output([sys.executable, "-c", ask], text=True)

    monkeypatch.setattr(batches, "Client", masked)
    assert batches.connected(None, 1, on_gpu=False) == "True\n"
    assert masked() == "False\n"  # what is started later does


def test_the_workers_of_this_machine_leave_their_core_to_the_runs():
    """dask looks at its workers a hundred times a second, unless it is told not to."""
    with batches.connected(None, 1, on_gpu=False) as client:
        (asked,) = client.run(lambda: config.get("distributed.worker.profile.enabled")).values()
    assert asked is False
    assert config.get("distributed.worker.profile.enabled") is not False  # elsewhere it is as it was


def test_each_worker_of_this_machine_shows_its_runs_one_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")  # a scheduler has assigned one; and so that it is put back after
    monkeypatch.setattr(batches.torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(batches, "get_worker", lambda: type("Worker", (), {"name": 6}))
    batches.show_own_gpu(Run("spoof", {"device": "cuda"}))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    del os.environ["CUDA_VISIBLE_DEVICES"]
    batches.show_own_gpu(Run("spoof", {"device": "cpu"}))
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    batches.show_own_gpu(Run("spoof", {"device": "cuda"}))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
