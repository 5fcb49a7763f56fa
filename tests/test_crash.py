"""Starved of disk, forbidden to write, or two at once: what is left is whole. kills.py has what is killed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from polkit.adversary.forge import Made, forge
from polkit.adversary.plan import make_plan


def run(script: str, *arguments: object, through: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """In a process that has imported torch once and forks: pytest's own has threads."""
    return subprocess.run(
        [*through, sys.executable, "-c", script, *map(str, arguments)],
        cwd=Path(__file__).parent,
        check=False,
        capture_output=True,
        text=True,
    )


TWICE = """
import os, sys
from pathlib import Path
import kills
import polkit as pk
from polkit.verifier import load_calibration
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
proof, known = pk.prove(kills.TASK, 5, progress=False), load_calibration(place / "known.json")
assert kills.contents(proof.folder) == kills.contents(place / "out") == kills.contents(place / "honest")

def spoof(out):
    pk.attack_3(proof.final_weights(), kills.TASK, spoof_steps=12, iterations=1, out=out, progress=False)

assert at_once(lambda: spoof(None)) == [0, 0, 0]
assert at_once(lambda: spoof(place / "forged")) == [0, 3, 3]  # one sentence for whoever comes late
assert at_once(lambda: pk.calibrate(proof, replays=2, workers=1, progress=False)) == [0, 0, 0]
assert at_once(lambda: pk.verify(proof, known, top_q="all", remember=True)) == [0, 0, 0]
assert kills.damage(place) == []
left = [str(file) for file in place.rglob("*") if file.suffix in (".unfinished", ".partial", ".jsonl")]
assert left == [], left
"""


@pytest.mark.slow
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
    assert kills.forked(lambda: pk.prove(kills.TASK, 6, progress=False)) == 0  # it says so, and goes on without a cache
"""


def may_mount() -> bool:
    """Whether this user can mount a file system in a name space of its own."""
    if not shutil.which("unshare"):
        return False
    tried = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"]
    return subprocess.run(tried, check=False, capture_output=True).returncode == 0


@pytest.mark.slow
def test_a_full_disk_or_a_read_only_folder_is_one_sentence_and_what_was_made_goes_on_when_it_can(tmp_path):
    mode, through = ("mount", ("unshare", "-m")) if may_mount() else ("limit", ())
    done = run(STARVED, tmp_path, mode, through=through)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_spoof_that_fails_leaves_nothing(small_task, small_proof, tmp_path):
    plan = make_plan(small_proof.final_weights(), small_task, spoof_steps=4, seed=1, out=tmp_path / "spoof")

    def fail(plan):
        yield Made(0, plan.first)
        assert (tmp_path / "spoof.partial" / "checkpoints").is_dir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        forge(plan, "none", fail, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux alone")
def test_a_forked_kernel_ends_with_the_process_that_asked_for_it(tmp_path):
    told = tmp_path / "kernel"
    cell = f"import os, time\nopen({str(told)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)]), tmp_path / "a.ipynb")
    (tmp_path / "run.py").write_text(
        "import papermill\nfrom polkit.book.kernels import forked_kernels\nif __name__ == '__main__':\n"
        "    with forked_kernels():\n        papermill.execute_notebook('a.ipynb', None, kernel_name='python3')"
    )
    process = subprocess.Popen([sys.executable, "run.py"], stderr=subprocess.DEVNULL, cwd=tmp_path)
    while not (told.is_file() and told.read_text()):
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.wait()
    kernel = Path("/proc", told.read_text())
    for _ in range(100):
        if not kernel.exists():
            return
        time.sleep(0.1)
    os.kill(int(kernel.name), signal.SIGKILL)
    pytest.fail("the kernel goes on")


SERVED = """
import sys, threading
from multiprocessing import forkserver
from polkit.book.kernels import forked_kernels

begun = threading.Event()


def serve(stay):
    with forked_kernels():
        begun.set()
        stay()


def interrupted():
    raise KeyboardInterrupt


{}
begun.wait()
open(sys.argv[1], "w").write(str(forkserver._forkserver._forkserver_pid))
"""
ENDS = {  # of the process: after an interrupt within the block; while a thread is in it, as a dask worker's may be
    "interrupted": "try:\n    serve(interrupted)\nexcept KeyboardInterrupt:\n    pass",
    "closed": "threading.Thread(target=serve, args=[threading.Event().wait], daemon=True).start()",
}


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux alone")
@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
def test_the_server_that_forks_kernels_ends_with_its_process_and_not_after_its_imports(end, tmp_path):
    # No pipes: the server would hold them open, and whoever reads them would wait for it.
    command = [sys.executable, "-c", SERVED.format(ENDS[end]), tmp_path / "pid"]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=True)
    server = Path("/proc", (tmp_path / "pid").read_text(), "stat")
    for _ in range(10):
        if not server.exists() or server.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the server goes on")
