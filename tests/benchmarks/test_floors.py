"""What must hold in seconds and bytes of memory on two cores. Every test is `slow`: `make bench` runs them."""

import shutil
import subprocess
import sys
import tempfile
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
import pytest

import polkit as pk
from polkit.book import panels
from polkit.book.chapters import chapters, run_book
from polkit.prover import train
from polkit.training.data import signatures_of
from tests.benchmarks.loops import bare_seconds, median_seconds, random_points, seconds_of

pytestmark = pytest.mark.slow
DIGITS = pk.task("digits", epochs=20)  # T = 440
# Spoofs of data/results/digits/trained_start.csv that the strict verifier accepted in 20 trainings of 20: 20 steps are
# trained, and W_T is reached 10 steps before the end.
ACCEPTED = {"spoof_steps": 140, "trained_steps": 20, "pace": [(0, 0), (11 / 12, 1), (1, 1)]}
ATTACKS = {
    "attack_2, 20 trained steps": (pk.attack_2, ACCEPTED, 0.15),
    "attack_3, 20 trained steps": (pk.attack_3, ACCEPTED, 0.20),
    # Its cheapest setting; `test_attacks` asks first that it is accepted for the training with seed 0.
    "interpolation_only": (pk.interpolation_only, {"spoof_steps": 120, "replayed_intervals": 3}, 0.02),
}


BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # of x86 and ARM in /proc/cpuinfo


def has_bf16() -> bool:
    """Whether this CPU has bf16 instructions; torch computes bf16 without them too, slowly."""
    flags = Path("/proc/cpuinfo")
    return flags.exists() and bool(BF16_FLAGS & set(flags.read_text().split()))


def proved(task, conditions=pk.Conditions()):
    with tempfile.TemporaryDirectory() as folder:
        return pk.prove(task, out=Path(folder) / "proof", conditions=conditions, progress=False).cost()


def trained_seconds(task):
    return seconds_of(lambda: train(task, 0, pk.Conditions(), pk.training_points(task)))


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """CIFAR-10's own files with noise in them, and its task cut to 30 steps of 128 images, k = 10."""
    home = tmp_path_factory.mktemp("data")
    files = home / "cifar-10-batches-bin"
    files.mkdir()
    records = np.random.default_rng(0).integers(0, 256, (5, 512, 3073), dtype=np.uint8)
    records[:, :, 0] %= 10
    for number, part in enumerate(records, 1):
        part.tofile(files / f"data_batch_{number}.bin")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("POLKIT_DATA", str(home))
        yield pk.task("cifar10", train_size=1920, epochs=2, checkpoint_interval=10)


FLOORS = {"float32": 0.70, "bf16": 0.45}
WAYS = {False: "eager", True: "compiled"}


@pytest.fixture(scope="module")
def colour_seconds(colours, tmp_path_factory):
    """(precision, way) -> (first, pairs): the seconds of its first proof, and five times another's and the bare loop's.

    The bare loop runs in the middle of each turn, one proof away at most: a minute later the machine may be a third
    slower. What is done once, and kept in memory, is in the first proof alone: half a minute of compiling, from an
    empty cache.
    """
    runs = {
        (precision, way): partial(proved, colours, pk.Conditions(threads=2, precision=precision, compiled=compiled))
        for precision, (compiled, way) in product(FLOORS, WAYS.items())
        if precision == "float32" or has_bf16()
    }
    ways, middle = list(runs), len(runs) // 2
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        seconds = {way: (seconds_of(run), []) for way, run in runs.items()}
        for _ in range(5):
            before = [seconds_of(runs[way]) for way in ways[:middle]]
            bare = bare_seconds(colours, threads=2)
            after = [seconds_of(runs[way]) for way in ways[middle:]]
            for way, taken in zip(ways, before + after, strict=True):
                seconds[way][1].append((taken, bare))
    return seconds


@pytest.mark.parametrize("precision", FLOORS)
def test_proof_creation_of_colour_images(noted, colour_seconds, precision):
    """The floor is asked of the faster way: which one that is depends on the processor, and a prover has the choice."""
    measured = {}
    for way in WAYS.values():
        if (precision, way) not in colour_seconds:
            pytest.skip("this CPU has no bf16 instructions")
        first, pairs = colour_seconds[precision, way]
        seconds, bare = (median(each) for each in zip(*pairs, strict=True))
        measured[way] = {
            "value": median(one / other for one, other in pairs),
            "seconds": seconds,
            "against_seconds": bare,
            "repeats": len(pairs),
        }
        noted(f"prove, ResNet-20, {precision}, {way} / bare loop", **measured[way])
        if way == "compiled":
            noted(f"first proof, ResNet-20, {precision}, compiling it", first, unit="seconds", seconds=first, repeats=1)
    faster = min(measured.values(), key=lambda figures: figures["value"])
    noted(f"prove, ResNet-20, {precision}, the faster way / bare loop", **faster, at_most=FLOORS[precision])


def test_proof_creation_of_digits(compared):
    compared("prove, digits / bare loop", lambda: proved(DIGITS), lambda: bare_seconds(DIGITS), at_most=1.15, repeats=3)


@pytest.mark.parametrize(("interval", "at_most", "repeats"), [(100, 1.03, 15), (10, 1.08, 9)])
def test_recording(compared, interval, at_most, repeats):
    task = DIGITS.replace(checkpoint_interval=interval)
    compared(
        f"prove, digits, k = {interval} / the same loop without recording",
        lambda: proved(task),
        lambda: trained_seconds(task),
        at_most=at_most,
        repeats=repeats,
    )


def test_verification(compared, tmp_path):
    proof = pk.prove(DIGITS, out=tmp_path / "proof", progress=False)
    calibration = pk.calibrate(proof, replays=2, workers=1, out=tmp_path / "calibration.json", progress=False)
    compared(
        "verify, digits, Q = all / as many plain steps",
        lambda: pk.verify(proof, calibration, top_q="all"),
        lambda: trained_seconds(DIGITS),
        at_most=1.10,
        repeats=15,
    )


def test_signatures(benchmark, noted):
    task = pk.task("cifar10")
    points, batches = random_points(task, 50_000), np.arange(390 * 128, dtype=np.int32).reshape(390, 128)
    benchmark.pedantic(signatures_of, (points, batches), rounds=5, warmup_rounds=1)
    seconds = median(benchmark.stats.stats.data)
    noted("signatures of 50,000 images", seconds, unit="seconds", at_most=1.0, seconds=seconds, repeats=5)


@pytest.fixture(scope="module")
def prepared():
    return pk.prepare(pk.task("digits"), workers=2, progress=False)


def test_attacks(noted, prepared, tmp_path):
    proof, calibration = prepared
    final, folder = proof.final_weights(), tmp_path / "spoof"

    def spoofed(attack, settings):
        shutil.rmtree(folder, ignore_errors=True)
        known = {} if attack is pk.interpolation_only else {"calibration": calibration}
        return attack(final, proof.task, seed=1, out=folder, progress=False, **known, **settings)

    for attack, settings, _ in ATTACKS.values():
        assert pk.verify(spoofed(attack, settings), calibration, top_q="all").accepted, settings
    runs = [partial(spoofed, attack, settings) for attack, settings, _ in ATTACKS.values()]
    against, *seconds = median_seconds([lambda: proved(proof.task), *runs], repeats=2)
    for (name, (_, _, at_most)), each in zip(ATTACKS.items(), seconds, strict=True):
        noted(
            f"{name}, digits / the proof",
            each / against,
            at_most=at_most,
            seconds=each,
            against_seconds=against,
            repeats=2,
        )


def test_a_slider(benchmark, noted, prepared):
    proof, calibration = prepared
    verdict = pk.verify(proof, calibration, top_q="all", remember=True)
    shown = panels.verdict_panel(verdict, proof, calibration, intervals=[proof.checkpoint_interval])
    delta, q = shown.sliders["threshold_scale"], shown.sliders["top_q"]
    values = iter([(delta, 0.1), (q, 2), (delta, 0.5), (q, 1), (delta, 1.0), (q, 2), (delta, 2.0)])

    def move():
        slider, value = next(values)
        slider.value = value

    benchmark.pedantic(move, rounds=7)
    seconds = median(benchmark.stats.stats.data)
    noted("a slider's answer", seconds, unit="seconds", at_most=0.1, seconds=seconds, repeats=7)


IMPORTS = "import time, torch; begun = time.perf_counter(); import polkit; print(time.perf_counter() - begun)"


def test_import(noted):
    seconds = median(float(subprocess.check_output([sys.executable, "-c", IMPORTS])) for _ in range(5))
    noted("import polkit, beyond torch", seconds, unit="seconds", at_most=0.3, seconds=seconds, repeats=5)


PEAK = """
import sys
import polkit as pk
from tests.benchmarks.loops import peak_bytes
task = pk.task("digits", epochs=5)
proof = pk.prove(task, out=sys.argv[1], progress=False)
if sys.argv[2] != "prove":
    attack = {"attack_2": pk.attack_2, "attack_3": pk.attack_3, "interpolation_only": pk.interpolation_only}
    calibration = pk.calibrate(proof, replays=2, workers=1, out=sys.argv[1] + ".json", progress=False)
    if sys.argv[2] in attack:
        attack[sys.argv[2]](proof.final_weights(), task, spoof_steps=20, calibration=calibration,
                            out=sys.argv[1] + ".spoof", progress=False)
    else:
        pk.verify(proof, calibration, top_q="all")
print(peak_bytes() / 2**20)
"""


@pytest.mark.parametrize("party", ["prove", "verify", "attack_2", "attack_3", "interpolation_only"])
def test_memory(noted, tmp_path, party):
    peak = float(subprocess.check_output([sys.executable, "-c", PEAK, str(tmp_path / "proof"), party]))
    noted(f"peak memory of a process, digits, {party}", peak, unit="MiB")


@pytest.mark.parametrize("chapter", [file.stem for file in chapters()])
def test_the_book(benchmark, noted, tmp_path, chapter):
    """In the order of the book, from what the chapters before have left in the cache."""
    assert benchmark.pedantic(run_book, (tmp_path, [chapter])) == 0
    seconds = benchmark.stats.stats.data[0]
    noted(f"make book, {chapter}", seconds, unit="seconds", seconds=seconds, repeats=1)
