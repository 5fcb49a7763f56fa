"""Kills or interrupts commands at random moments, and looks at what is left each time.

`python tests/kills.py 50` (`make kills`) kills `prove`, `spoof`, `calibrate` and `reproduce` 50 times each: processes
that are forked from this one, which has imported torch and started no thread. `python tests/kills.py 20 --interrupt`
(`make interrupts`) sends 20 times Ctrl-C to each of these, `verify`, `book`, and `new` and `score` of
`polkit-challenge`, as a terminal does, from their start to their end. With names, `python tests/kills.py 50 prove
spoof`, these alone are killed.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

import polkit as pk
from polkit.reproduce import reproduce
from polkit.verifier import Calibration, load_calibration
from polkit.verifier.inspection import check_files

TASK = pk.task("digits").replace(train_size=256, epochs=6, checkpoint_interval=3)  # S = 4, T = 24, 9 checkpoints
SEED = 5


def forked(work: Callable[[], object], seconds: float | None = None) -> int:
    """Exit status of a process that does the work; killed, with SIGKILL, after `seconds` if it is not done by then."""
    child = os.fork()
    if child == 0:
        try:
            work()
            sys.stdout.flush()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def running(group: int) -> list[str]:
    """The processes of a group that run; one that has ended stays until its parent, or init, asks for its status."""
    asked = ["ps", "-A", "-ww", "-o", "pgid=,stat=,etime=,args="]
    listed = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in listed if int(line.split()[0]) == group and line.split()[1][0] != "Z"]


def left_of(group: int) -> list[str]:
    """The processes of a group that still run after ten seconds, and are killed then."""
    for _ in range(100):
        if not (left := running(group)):
            return []
        time.sleep(0.1)
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    return left


def started(arguments: Callable[[], list[str]], seconds: float | None = None) -> int:
    """Exit status of a command; after `seconds` its processes get what Ctrl-C in a terminal sends.

    No arguments: there is nothing to do. 130 is answered only of a process that says in one line that it was
    interrupted, ends within two minutes and leaves no other behind.
    """
    if not (command := arguments()):
        return 0
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told, start_new_session=True)
        if seconds is not None:
            time.sleep(seconds)
            os.killpg(process.pid, signal.SIGINT)
        try:
            status = process.wait(None if seconds is None else 120)
        except subprocess.TimeoutExpired:
            status = "nothing after two minutes"
        left = f" and left {there} behind" if (there := left_of(process.pid)) else ""
        told.seek(0)
        said = told.read()
    if left or (status == 130 and said != "polkit: interrupted\n") or status not in (0, 130):
        print(f"after {seconds} s {' '.join(command[2:])} ended with {status}{left}: {said}", flush=True)
        return 1
    return status


def at_a_boundary(work: Callable[[], object], moment: int | None) -> Callable[[], object]:
    """The work, killed before or after the n-th call that changes a name or waits for the disk (moment = 2n, 2n + 1).

    With None it runs through, and returns how many such calls there were.
    """

    def run() -> None:
        made = 0

        def counted(real: Callable) -> Callable:
            def call(*arguments, **named):
                nonlocal made
                if moment == 2 * made:
                    os.kill(os.getpid(), signal.SIGKILL)
                found = real(*arguments, **named)
                if moment == 2 * made + 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                made += 1
                return found

            return call

        for name in ("replace", "fsync", "unlink", "mkdir", "rmdir"):
            setattr(os, name, counted(getattr(os, name)))
        work()
        print(made)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def damage(root: Path) -> list[str]:
    """What claims to be whole under a folder and is not."""
    found = []
    for manifest in root.rglob("manifest.json"):
        if manifest.parent.suffix == ".partial":
            continue  # nobody reads a proof under that name
        made = pk.open_proof(manifest.parent)
        found += [f"{made.folder}: {reason}" for reason in check_files(made, made.task)]
        if not manifest.parent.with_name(manifest.parent.name + ".record.json").is_file():
            found.append(f"{manifest.parent} has no record")
    for file in (*root.rglob("*.json"), *root.rglob("*.ipynb")):
        try:
            json.loads(file.read_bytes())
        except ValueError as error:
            found.append(f"{file}: {error}")
    return found


@dataclass
class Command:
    """What is stopped, and what is looked at afterwards."""

    name: str
    work: Callable[[Path], object]  # in a folder; for `started` the command's arguments
    outcome: Callable[[Path], object]  # what must be the same as if nobody had stopped it
    names: set[str]  # what it leaves in the folder when it is done, nothing else
    finished: Callable[[Path], dict] = lambda root: {}  # what a stop must not take away again
    fork: Callable[..., int] = forked
    stopped: int = -signal.SIGKILL  # the exit status of one that was stopped
    earliest: float = 0.0  # seconds
    seconds: float = 0.0
    expected: object = None
    lost: list[str] = field(default_factory=list)
    corrupted: list[str] = field(default_factory=list)
    kills: int = 0
    landed: int = 0

    def prepare(self, root: Path) -> None:
        """One run that nobody kills: how long it takes, and what it comes to."""
        begun = time.perf_counter()
        assert self.fork(lambda: self.work(root)) == 0, f"{self.name} fails by itself"
        self.seconds, self.expected = time.perf_counter() - begun, self.outcome(root)

    def check(self, root: Path, kept: dict) -> None:
        self.corrupted += [f"{self.name}: {what}" for what in damage(root)]
        now = self.finished(root)
        self.lost += [f"{self.name}: {name} was finished" for name, value in kept.items() if now.get(name) != value]

    def complete(self, root: Path) -> None:
        """A last run that nobody kills, which must come to what it would have come to at once."""
        kept = self.finished(root)
        if self.fork(lambda: self.work(root)) != 0:
            self.lost.append(f"{self.name}: does not go on after a kill")
            return
        self.check(root, kept)
        if self.outcome(root) != self.expected:
            self.corrupted.append(f"{self.name}: ends differently after a kill")
        litter = {file.name for file in root.iterdir()} - self.names
        if litter:
            self.lost.append(f"{self.name}: leaves {sorted(litter)}")

    def kill(self, times: int, place: Path, generator: random.Random) -> None:
        """At random moments of a whole run, and of the runs that go on after a kill."""
        root = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=place))
        while self.landed < times:
            kept = self.finished(root)
            status = self.fork(lambda at=root: self.work(at), generator.uniform(self.earliest, self.seconds))
            self.kills += 1
            assert self.kills < 10 * times, f"{self.name}: {self.landed} of {self.kills} were in time"
            self.landed += status == self.stopped
            if status not in (0, self.stopped):
                self.lost.append(f"{self.name}: ended with {status}")
            self.check(root, kept)
            if status != self.stopped or self.landed == times or generator.random() < 0.3:
                self.complete(root)
                shutil.rmtree(root)
                root.mkdir()

    def kill_at_boundaries(self, place: Path) -> int:
        """Around every call that changes a name or waits for the disk; how many kills."""
        count, root = place / "calls", place / "boundary"
        root.mkdir()

        def counted() -> None:
            with count.open("w") as file:
                os.dup2(file.fileno(), 1)
                at_a_boundary(lambda: self.work(root), None)()

        assert forked(counted) == 0
        moments = range(2 * int(count.read_text().split()[-1]))
        for moment in moments:
            shutil.rmtree(root)
            root.mkdir()
            killed = forked(at_a_boundary(lambda: self.work(root), moment))
            assert killed == -signal.SIGKILL, f"{self.name}: no kill at {moment}"
            self.check(root, {})
            self.complete(root)
        shutil.rmtree(root)
        return len(moments)


def commands(place: Path) -> list[Command]:
    """The three whose processes can be forked; place: for the honest proof and calibration that they start from."""
    torch.set_num_threads(1)
    pk.unit_costs(TASK), pk.training_points(TASK)  # counted and imported once, not in every process
    honest, known = place / "honest", place / "known.json"
    if not honest.exists():
        assert forked(lambda: pk.prove(TASK, SEED, out=honest, progress=False)) == 0
        assert forked(lambda: calibrated(honest, known)) == 0

    def spoof(root: Path) -> None:
        proof, calibration = pk.open_proof(honest), load_calibration(known)
        try:
            pk.attack_2(
                proof.final_weights(),
                TASK,
                spoof_steps=12,
                calibration=calibration,
                iterations=2,
                out=root / "forged",
                progress=False,
            )
        except FileExistsError:  # a spoof that is there is not made again
            pk.open_proof(root / "forged")

    def calibration_of(root: Path) -> dict:
        values = json.loads((root / "calibration.json").read_text())
        return {name: value for name, value in values.items() if name != "cost"}

    return [
        Command(
            "prove",
            lambda root: pk.prove(TASK, SEED, out=root / "proof", progress=False),
            lambda root: contents(root / "proof"),
            {"proof", "proof.record.json"},
        ),
        Command("spoof", spoof, lambda root: contents(root / "forged"), {"forged", "forged.record.json"}),
        Command(
            "calibrate",
            lambda root: calibrated(honest, root / "calibration.json"),
            calibration_of,
            {"calibration.json"},
        ),
    ]


def calibrated(proof: Path, out: Path) -> Calibration:
    return pk.calibrate(pk.open_proof(proof), replays=2, workers=1, out=out, progress=False)


SMALL = {"epochs": 10, "train_size": 640, "checkpoint_interval": 5}  # T = 100


def batch_command() -> Command:
    """`reproduce`: an honest run and a spoof of it, each in a notebook's kernel under a worker of a dask cluster.

    The batch's own process is killed; its workers and kernels must end by themselves.
    """

    def work(root: Path) -> None:
        os.environ["POLKIT_HOME"] = str(root / "home")
        os.dup2(os.open(root.with_suffix(".log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND), 1)
        os.dup2(1, 2)
        failed = reproduce(
            ["table-2"], repeats=1, out=root / "out", common=SMALL | {"regime": "strict"}, lengths=[20], workers=1
        )
        assert not failed, f"{failed} runs failed"

    def records(root: Path) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in (root / "out" / "records").glob("*.json")}

    def outcome(root: Path) -> dict:
        values = {name: json.loads(text)["values"] for name, text in records(root).items()}
        return {name: {key: v for key, v in each.items() if "seconds" not in key} for name, each in values.items()}

    return Command("reproduce", work, outcome, {"home", "out"}, records)


def interrupts(place: Path) -> list[Command]:
    """Every command that takes long, as a process with a cache in its own folder; place: as in `commands`."""
    # A shell starts what runs in its background with Ctrl-C ignored, and whatever that starts would ignore it too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    made = {command.name: command for command in [*commands(place), batch_command()]}
    honest, known = place / "honest", ["--calibration", place / "known.json"]
    few = ["--epochs", "2", "--checkpoint-interval", "11"]  # of digits: T = 44
    spoof = ["spoof", "--attack", "2", "--weights", honest, "--spoof-steps", "12", "--iterations", "2", "--keep-failed"]
    batch = ["reproduce", "table-2", "--repeats", "1", "--regime", "strict", "--epochs", "2", "--train-size", "640"]
    batch += ["--checkpoint-interval", "5", "--spoof-steps", "5", "--workers", "1", "--out"]

    def copies(root: Path) -> set[str]:
        return {file.name for file in (root / "book").iterdir()}

    def spoof_of(root: Path) -> list:  # one that is there is not made again
        return [] if (root / "forged").exists() else [*spoof, "--workers", "2", "--out", root / "forged"]

    works = {
        "prove": lambda root: ["prove", *few, "--out", root / "proof"],
        "verify": lambda root: ["verify", honest, *known, "--top-q", "all", "--workers", "2", "--seed", "0"],
        "spoof": spoof_of,
        "calibrate": lambda root: ["calibrate", honest, "--replays", "2", "--out", root / "calibration.json"],
        "reproduce": lambda root: [*batch, root / "out"],
        "book": lambda root: ["book", "--only", "01_", "--only", "A_", "-p", "epochs", "2", "--out", root / "book"],
    }
    made["verify"] = Command("verify", works["verify"], lambda root: None, set())  # whose status is all it leaves
    made["book"] = Command("book", works["book"], copies, {"book"})
    polkit = [sys.executable, "-m", "polkit"]
    return [as_process(replace(made[name], work=work), polkit) for name, work in works.items()] + challenge(place)


def challenge(place: Path) -> list[Command]:
    """`polkit-challenge new` and `score`, with a challenge and a submission to it; place: as in `commands`."""
    command = [str(Path(sys.executable).with_name("polkit-challenge"))]
    honest, published, handed_in = place / "honest", place / "challenge", place / "submissions"
    new = ["new", honest, "--calibration", place / "known.json", "--out"]
    submit = ["submit", published, honest, "--name", "team", "--out", handed_in]
    for first in ([*new, published], submit):
        assert started(lambda: [*command, *map(str, first)]) == 0  # noqa: B023

    def again(root: Path) -> list:  # one that is there is not made again
        return [] if (root / "new").exists() else [*new, root / "new"]

    def score(root: Path) -> list:
        return ["score", published, handed_in, "--out", root / "scores.csv"]

    made = [
        Command("new", again, lambda root: sorted(contents(root / "new")), {"new"}),
        Command("score", score, lambda root: None, {"scores.csv"}),
    ]
    return [as_process(each, command) for each in made]


def as_process(made: Command, command: list[str]) -> Command:
    """The same with its own process and its own cache; made.work: gives the command's arguments, or nothing to do."""

    def work(root: Path) -> list[str]:
        os.environ["POLKIT_HOME"] = str(root / "home")
        return [*command, *map(str, asked)] if (asked := made.work(root)) else []

    earliest = 0.5  # seconds: Python itself is starting before that
    return replace(made, work=work, names=made.names | {"home"}, fork=started, stopped=130, earliest=earliest)


def main(times: int, names: list[str], interrupt: bool = False) -> int:
    """0 if nothing was lost or corrupted. names: of the commands to stop; none means all."""
    generator, total, done, word = random.Random(), [], [], "interrupts" if interrupt else "kills"
    with tempfile.TemporaryDirectory(prefix="polkit-kills-") as folder:
        place = Path(folder)
        os.environ["POLKIT_HOME"] = str(place / "home")
        for command in interrupts(place) if interrupt else [*commands(place), batch_command()]:
            if names and command.name not in names:
                continue
            begun = time.perf_counter()
            first = place / f"first-{command.name}"
            first.mkdir()
            command.prepare(first)
            command.kill(times, place, generator)
            around = command.kill_at_boundaries(place) if command.fork is forked and command.name != "reproduce" else 0
            for problem in command.lost + command.corrupted:
                print(problem)
            spent = time.perf_counter() - begun
            print(
                f"{command.name}: {command.landed} {word} at random moments of {command.seconds:.1f} s "
                f"({command.kills} tried) and {around} around a change of the disk, {spent:.0f} s",
                flush=True,
            )
            total.append(command)
            done.append(f"{command.landed} {word} of {command.name}")
    lost, corrupted = sum(len(c.lost) for c in total), sum(len(c.corrupted) for c in total)
    print(f"{', '.join(done)}: {lost} lost, {corrupted} corrupted")
    return 1 if lost or corrupted else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("times", type=int, nargs="?", default=50)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--interrupt", action="store_true", help="with Ctrl-C")
    sys.exit(main(**vars(parser.parse_args())))
