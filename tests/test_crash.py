"""Killed, starved of disk, forbidden to write, or two at once: what is left is whole, or is begun again."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from errno import ENOSPC
from pathlib import Path

import pytest
from kills import SMALL, batch_command, contents, damage

import polkit as pk
from polkit.adversary.forge import Made, forge
from polkit.adversary.plan import make_plan
from polkit.proof.checkpoints import checkpoint_name, checkpoint_steps
from polkit.proof.storage import fresh_folder, made_alone, partial_path, write_text_whole, write_whole
from polkit.prover import journal_of
from polkit.training import Learner


def run(script: str, *arguments: object, through: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """In a process that has imported torch once and forks: pytest's own has threads."""
    return subprocess.run(
        [*through, sys.executable, "-c", script, *map(str, arguments)],
        cwd=Path(__file__).parent,
        check=False,
        capture_output=True,
        text=True,
    )


KILLED = """
import random, sys
from pathlib import Path
import kills

place, generator, found = Path(sys.argv[1]), random.Random(), []
for command in kills.commands(place):
    first = place / f"first-{command.name}"
    first.mkdir()
    command.prepare(first)
    command.kill(2, place, generator)
    command.kill_at_boundaries(place, 5, generator)
    found += command.lost + command.corrupted
sys.exit("\\n".join(found) or 0)
"""


def test_prove_spoof_and_calibrate_killed_anywhere_lose_and_corrupt_nothing(tmp_path):
    done = run(KILLED, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_batch_killed_at_a_random_moment_goes_on_and_loses_no_record(tmp_path):
    command, root = batch_command(), tmp_path / "batch"
    root.mkdir()

    def reproduce(_, seconds=None):
        work = "import sys, kills; from pathlib import Path; kills.batch_command().work(Path(sys.argv[1]))"
        process = subprocess.Popen([sys.executable, "-c", work, str(root)], cwd=Path(__file__).parent)
        if seconds is not None:
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
        return process.wait()

    assert reproduce(None, random.uniform(2, 8)) in (-signal.SIGKILL, 0)
    command.check(root, {})
    command.fork, command.outcome = reproduce, lambda _: None  # what it comes to is compared by `make kills`
    command.complete(root)
    assert command.lost == command.corrupted == []
    assert len(command.finished(root)) == 2
    honest = next((root / "home" / "proofs").glob("*/manifest.json")).parent
    again = pk.prove(pk.task("digits", **SMALL), out=tmp_path / "again", progress=False)
    assert contents(honest) == contents(again.folder)


TWICE = """
import os, sys
from pathlib import Path
import kills
import polkit as pk
import polkit.prover as prover
import polkit.verifier.replay as replay

place = Path(sys.argv[1])
os.environ["POLKIT_HOME"] = str(place / "home")
started = place / "started"
real, honest, known = prover.train, None, None

def train(*arguments, **named):
    with started.open("a") as file:
        file.write("x")
    return real(*arguments, **named)

def at_once(work, count=3):
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            try:
                work()
                os._exit(0)
            except FileExistsError as error:
                assert "exists already" in str(error)
                os._exit(3)
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
        children.append(child)
    return sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)

kills.commands(place)
prover.train = train
assert at_once(lambda: pk.prove(kills.TASK, 5, progress=False)) == [0, 0, 0]
assert at_once(lambda: pk.prove(kills.TASK, 5, out=place / "out", progress=False)) == [0, 0, 0]
assert started.read_text() == "xx", started.read_text()  # one training for each place
proof, known = pk.prove(kills.TASK, 5, progress=False), pk.load_calibration(place / "known.json")
assert kills.contents(proof.folder) == kills.contents(place / "out") == kills.contents(place / "honest")

def spoof(out):
    pk.attack_3(proof.final_weights(), kills.TASK, spoof_steps=12, iterations=1, out=out, progress=False)

assert at_once(lambda: spoof(None)) == [0, 0, 0]
assert at_once(lambda: spoof(place / "forged")) == [0, 3, 3]  # one sentence for whoever comes late
assert at_once(lambda: pk.calibrate(proof, replays=2, workers=1, progress=False)) == [0, 0, 0]
assert at_once(lambda: pk.verify(proof, known, top_q="all", remember=True)) == [0, 0, 0]
assert kills.damage(place) == []
left = [str(file) for file in place.rglob("*") if file.suffix in (".unfinished", ".lock", ".partial", ".jsonl")]
assert left == [], left
"""


def test_several_processes_share_what_one_of_them_makes(tmp_path):
    done = run(TWICE, tmp_path)
    assert done.returncode == 0, done.stderr


STARVED = """
import os, resource, subprocess, sys
from pathlib import Path
import kills
import polkit as pk
from polkit.__main__ import main

place, mode = Path(sys.argv[1]), sys.argv[2]
small = ["--epochs", "1", "--checkpoint-interval", "4"]  # of digits: T = 22, 7 checkpoints of 159 kB each
os.environ["POLKIT_HOME"] = str(place / "home")
pk.unit_costs(pk.task("digits"))

def said(*arguments, limit=None):
    read, write = os.pipe()
    def work():
        os.dup2(write, 2)
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        os._exit(main([str(argument) for argument in arguments]))
    status = kills.forked(work)
    os.close(write)
    with os.fdopen(read) as told:
        return status, told.read()

def one_sentence(found, *words):
    status, text = found
    *bar, sentence = text.replace("\\r", "\\n").splitlines()
    assert status == 2 and sentence.startswith("polkit: "), found
    assert "Traceback" not in text and "polkit" not in "".join(bar), text  # nothing before it but a progress bar
    assert any(word in sentence for word in words), text

def mounted(folder, options):
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)

full, calibration = place / "full", place / "known.json"
full.mkdir()
assert said("prove", *small, "--out", place / "honest")[0] == 0
assert said("calibrate", place / "honest", "--replays", "2", "--workers", "1", "--out", calibration)[0] == 0
expected = kills.contents(place / "honest")
spoof = ["spoof", "--attack", "interpolation", "--weights", place / "honest", "--spoof-steps", "20"]

limited = place / "limited"
limited.mkdir()
# A limit on the size of files needs no rights.
one_sentence(said("prove", *small, "--out", limited / "proof", limit=100_000), "File too large")
one_sentence(said(*spoof, "--out", limited / "forged", limit=100_000), "File too large")
one_sentence(said("calibrate", place / "honest", "--replays", "2", "--workers", "1", "--out", limited / "c.json",
                  limit=500), "File too large")
assert not any((limited / name).exists() for name in ("proof", "forged", "c.json"))
assert said("prove", *small, "--out", limited / "proof")[0] == 0
assert kills.contents(limited / "proof") == expected

if mode == "mount":
    for size, command, name in (("300k", ["prove", *small], "proof"), ("700k", ["prove", *small], "proof"),
                                ("300k", spoof, "forged"), ("700k", spoof, "forged"),
                                ("8k", ["calibrate", place / "honest", "--replays", "2", "--workers", "1"], "c.json")):
        mounted(full, f"size={size}")
        if name == "c.json":  # which takes 3 kB, less than a page
            (full / "other").write_bytes(bytes(8192))
        one_sentence(said(*command, "--out", full / name), "No space left on device")
        assert kills.damage(full) == []
        assert not (full / name).exists()
        subprocess.run(["mount", "-o", "remount,size=20m", full], check=True)
        assert said(*command, "--out", full / name)[0] == 0
        if name == "proof":
            assert kills.contents(full / name) == expected
        assert {file.name for file in full.iterdir()} <= {name, f"{name}.record.json", "other"}
        subprocess.run(["umount", full], check=True)
# A read-only folder: of a file system mounted so, or of somebody who is not root, or /sys, which takes no files.
def kept():
    proof = pk.prove(kills.TASK, 5, progress=False)
    known = pk.calibrate(proof, replays=2, workers=1, progress=False)
    assert pk.verify(proof, known, remember=True).accepted

if mode == "mount":
    mounted(place / "home", "size=20m")
assert kills.forked(kept) == 0
closed, ways = place / "home", ("Read-only file system", "Permission denied", "Operation not permitted")
if mode == "mount":
    subprocess.run(["mount", "-o", "remount,ro", closed], check=True)
elif os.getuid():
    for folder in [closed, *(found for found in closed.rglob("*") if found.is_dir())]:
        folder.chmod(0o555)
else:
    closed = Path("/sys")
for command in (["prove", *small], spoof, ["calibrate", place / "honest", "--replays", "2", "--workers", "1"],
                ["reproduce", "table-2", "--repeats", "1"]):
    one_sentence(said(*command, "--out", closed / "x"), *ways)
if closed != Path("/sys"):
    assert kills.forked(kept) == 0  # what a cache holds can be read from it
    os.environ["POLKIT_HOME"] = str(closed / "none")
    def lost():
        try:
            pk.prove(kills.TASK, 6, progress=False)
        except OSError as error:
            assert any(word in str(error) for word in ways), error
            os._exit(7)
    assert kills.forked(lost) == 7
"""


def may_mount() -> bool:
    """Whether this user can mount a file system in a name space of its own."""
    if not shutil.which("unshare"):
        return False
    tried = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"]
    return subprocess.run(tried, check=False, capture_output=True).returncode == 0


def test_a_full_disk_or_a_read_only_folder_is_one_sentence_and_what_was_made_goes_on_when_it_can(tmp_path):
    mode, through = ("mount", ("unshare", "-m")) if may_mount() else ("limit", ())
    done = run(STARVED, tmp_path, mode, through=through)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_write_that_fails_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(ENOSPC, "No space left on device")

    file = tmp_path / "note.json"
    write_text_whole(file, "old")
    monkeypatch.setattr("polkit.proof.storage.os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*note.json'"):
        write_text_whole(file, "new")
    assert contents(tmp_path) == {"note.json": b"old"}


def test_two_writers_of_one_file_do_not_share_a_temporary_name(tmp_path, monkeypatch):
    file, real, names = tmp_path / "note.json", os.replace, []

    def replace(source, target):
        names.append(Path(source).name)
        if len(names) == 1:
            write_whole(file, b"the other's", durable=False)
        real(source, target)

    monkeypatch.setattr("polkit.proof.storage.os.replace", replace)
    write_whole(file, b"mine", durable=False)
    assert len(set(names)) == 2
    assert contents(tmp_path) == {"note.json": b"mine"}


def unfinished(task, folder, monkeypatch, done=10):
    """What a prover killed after so many steps leaves."""
    with monkeypatch.context() as patched:
        real = Learner.update

        def update(*arguments, step, **named):
            if step == done:
                raise KeyboardInterrupt
            return real(*arguments, step=step, **named)

        patched.setattr("polkit.training.step.Learner.update", update)
        with pytest.raises(KeyboardInterrupt):
            pk.prove(task, seed=0, out=folder, progress=False)
    return partial_path(folder)


@pytest.mark.parametrize("ruin", ["emptied", "zeroed", "gone", "journal cut", "journal torn", "journal empty", "stray"])
def test_what_a_loss_of_power_ruins_is_trained_again(small_task, small_proof, tmp_path, monkeypatch, ruin):
    partial = unfinished(small_task, tmp_path / "proof", monkeypatch)
    journal, middle = tmp_path / "proof.progress.jsonl", partial / checkpoint_name(4)
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 3  # W_0, W_4, W_8
    first = {"emptied": 4, "zeroed": 4, "gone": 4, "journal cut": 8, "journal torn": 8, "journal empty": 0, "stray": 8}
    if ruin == "emptied":
        middle.write_bytes(b"")
    elif ruin == "zeroed":
        middle.write_bytes(middle.read_bytes()[:-4096] + bytes(4096))
    elif ruin == "gone":
        middle.unlink()
    elif ruin == "journal cut":
        journal.write_text("".join(lines[:-1]))
    elif ruin == "journal torn":
        journal.write_text("".join(lines)[:-20])
    elif ruin == "journal empty":
        journal.write_text("")
    else:
        (partial / "checkpoints" / ".tmp6q9GPv").write_bytes(b"half")  # safetensors 0.8, killed
    told = []
    proof = pk.prove(small_task, seed=0, out=tmp_path / "proof", progress=lambda *now: told.append(now[0]))
    expected = {"journal cut": 4, "journal torn": 4, "emptied": 0, "zeroed": 0, "gone": 0}.get(ruin, first[ruin])
    assert told[0] == expected
    assert contents(proof.folder) == contents(small_proof.folder)
    assert {file.name for file in tmp_path.iterdir()} == {"proof", "proof.record.json"}


def test_a_resumed_proof_counts_no_second_twice(small_task, tmp_path, monkeypatch):
    begun = time.perf_counter()
    unfinished(small_task, tmp_path / "proof", monkeypatch)
    lines = (tmp_path / "proof.progress.jsonl").read_text().splitlines()
    before = json.loads(lines[-1])["wall_seconds"]
    proof = pk.prove(small_task, seed=0, out=tmp_path / "proof", progress=False)
    assert before < proof.cost().wall_seconds <= time.perf_counter() - begun
    assert proof.cost().gradient_evaluations == small_task.steps


def test_an_unfinished_proof_is_not_resumed_under_other_versions(small_task, tmp_path, monkeypatch):
    unfinished(small_task, tmp_path / "proof", monkeypatch)
    before = contents(tmp_path)
    monkeypatch.setattr("polkit.prover.versions", lambda: {"torch": "0.4"})
    with pytest.raises(FileExistsError, match="unfinished proof of other settings"):
        pk.prove(small_task, seed=0, out=tmp_path / "proof", progress=False)
    assert contents(tmp_path) == before


def test_a_spoof_does_not_remove_an_unfinished_proof(small_task, small_proof, tmp_path, monkeypatch):
    unfinished(small_task, tmp_path / "proof", monkeypatch)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="holds an unfinished proof"):
        pk.interpolation_only(
            small_proof.final_weights(), small_task, spoof_steps=4, out=tmp_path / "proof", progress=False
        )
    assert contents(tmp_path) == before


def test_a_proof_never_goes_on_from_somebody_elses_checkpoints(small_task, small_proof, tmp_path, monkeypatch):
    partial = unfinished(small_task, tmp_path / "proof", monkeypatch)
    shutil.rmtree(partial)  # the journal stays; a spoof is begun there, and killed
    other = pk.prove(small_task, seed=9, out=tmp_path / "other", progress=False)
    shutil.copytree(other.folder / "checkpoints", partial / "checkpoints")
    assert contents(pk.prove(small_task, seed=0, out=tmp_path / "proof", progress=False).folder) == contents(
        small_proof.folder
    )


def test_a_spoof_that_fails_leaves_nothing(small_task, small_proof, tmp_path):
    plan = make_plan(small_proof.final_weights(), small_task, spoof_steps=4, seed=1, out=tmp_path / "spoof")

    def fail(plan):
        yield Made(0, plan.first)
        assert (tmp_path / "spoof.partial" / "checkpoints").is_dir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        forge(plan, "none", fail, {})
    assert list(tmp_path.iterdir()) == []


def test_what_killed_writers_left_beside_a_place_goes_when_it_is_next_held(tmp_path):
    for name in ("proof.record.json.0123456789ab.unfinished", "proof.0123456789ab.unfinished", "proof2.x.unfinished"):
        (tmp_path / name).touch()
    with made_alone(tmp_path / "proof"):
        assert {file.name for file in tmp_path.iterdir()} == {"proof.lock", "proof2.x.unfinished"}
        with (
            pytest.raises(BlockingIOError, match="another process is working at"),
            made_alone(tmp_path / "proof", wait=False),
        ):
            pass
    assert {file.name for file in tmp_path.iterdir()} == {"proof2.x.unfinished"}


def test_a_proof_is_on_the_disk_before_it_is_called_one(small_task, tmp_path, monkeypatch):
    synced, moved, real_sync, real_move = [], [], os.fsync, os.replace

    def fsync(descriptor):
        synced.append(os.path.realpath(f"/dev/fd/{descriptor}"))
        real_sync(descriptor)

    def replace(source, target):
        moved.append((str(target), list(synced)))
        real_move(source, target)

    monkeypatch.setattr("polkit.proof.storage.os.fsync", fsync)
    monkeypatch.setattr("os.replace", replace)
    proof = pk.prove(small_task, seed=0, out=tmp_path / "proof", progress=False)
    partial = os.path.realpath(tmp_path) + "/proof.partial"
    before = dict(moved)[f"{tmp_path}/proof.partial/manifest.json"]
    wanted = [checkpoint_name(step) for step in checkpoint_steps(proof.steps, 4)] + ["batches.npy", "signatures.npy"]
    assert {f"{partial}/{name}" for name in [*wanted, "augmentation.npy", "checkpoints"]} <= set(before)
    last = dict(moved)[f"{tmp_path}/proof"]
    assert last.count(partial) > before.count(partial)  # the manifest's own name
    assert os.path.realpath(tmp_path) in synced[len(last) :]  # and the proof's


def test_the_journal_of_other_settings_is_refused_and_fresh_folders_spare_it(tmp_path):
    journal = journal_of(tmp_path / "proof", {"seed": 0})
    journal.partial.mkdir()
    journal.begin()
    with pytest.raises(FileExistsError):
        journal_of(tmp_path / "proof", {"seed": 1}).resume([0])
    with pytest.raises(FileExistsError):
        fresh_folder(tmp_path / "proof")
    assert journal.resume([0]) == (None, 0.0)
    assert damage(tmp_path) == []
