"""Training steps that prove themselves: nothing to replay and no δ (Section V, "verifiable computation"; ezkl, Halo2).

The model is a linear classifier with L(W) = ‖XW − Y‖² / 2B and W' = W − η Xᵀ(XW − Y) / B. Everything is whole numbers:
pixels in sixteenths (those of `digits` are), weights in units of 2^-16, B and η powers of two. Both matrix products are
then exact, and a step rounds once, back to units of 2^-16.
"""

import json
import logging
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import numpy as np
import torch.nn.functional as F

from polkit.proof import cache_folder, made_alone
from polkit.training import Points, training_points
from polkit.training.task import task

CLASSES, LEARNING_RATE = 10, 2**-4  # of `digits`; η, a power of two
PIXEL_BITS, WEIGHT_BITS = 4, 16
LARGEST_WEIGHT = 2**23  # in fixed point, that is 128: ezkl reads its inputs as 32-bit floats, exact up to 2^24


@dataclass(frozen=True)
class Circuit:
    """The shape of a step."""

    features: int  # pixels of an image
    batch_size: int  # B, a power of two
    freivalds: bool = False  # check each matrix product at random points, which pays where a product is large

    def __post_init__(self):
        if self.batch_size < 1 or self.batch_size.bit_count() != 1:
            raise ValueError(f"the circuit's batch_size is {self.batch_size}, it must be a power of two")

    @property
    def shift(self) -> int:
        """By how many bits Xᵀ(XW − Y), in units of 2^-(2·4+16), is larger than η / B times itself in units of 2^-16."""
        return 2 * PIXEL_BITS + round(np.log2(self.batch_size / LEARNING_RATE))

    @property
    def operations(self) -> int:
        """Of the two matrix products, 2 for a multiplication with its addition, as torch counts."""
        return 4 * self.batch_size * self.features * CLASSES

    def fits(self, weights: np.ndarray, batch: "Batch") -> bool:
        """Whether these are whole numbers of the circuit's shapes and ranges."""
        parts = weights, batch.images, batch.labels
        shapes = (self.features, CLASSES), (self.batch_size, self.features), (self.batch_size,)
        if [(part.dtype, part.shape) for part in parts] != [(np.int64, shape) for shape in shapes]:
            return False
        ranges = (1 - LARGEST_WEIGHT, LARGEST_WEIGHT), (0, 2**PIXEL_BITS + 1), (0, CLASSES)
        return all(low <= part.min() and part.max() < high for part, (low, high) in zip(parts, ranges, strict=True))


@dataclass(frozen=True)
class Batch:
    """What a step is taken on."""

    images: np.ndarray  # int64 (B, features), 0 to 16 sixteenths
    labels: np.ndarray  # int64 (B,)

    @property
    def targets(self) -> np.ndarray:
        """Y: int64 (B, classes), 1 for the label, in the units of XW (2^-20)."""
        return np.eye(CLASSES, dtype=np.int64)[self.labels] << (PIXEL_BITS + WEIGHT_BITS)


@dataclass(frozen=True)
class Keys:
    """What `setup` makes."""

    circuit: Circuit
    folder: Path  # the compiled circuit, its SRS, the proving and the verification key
    rows: int  # that one column would need
    logrows: int  # log2 of the rows that each column has


def pixel_batch(points: Points, side: int = 8) -> Batch:
    """Images (n, 1, height, width), averaged to `side` x `side` pixels and rounded to sixteenths."""
    pooled = F.adaptive_avg_pool2d(points.images.double(), side)
    images = np.rint(pooled.flatten(1).numpy() * (2**PIXEL_BITS / 255)).astype(np.int64)
    return Batch(images, points.labels.numpy())


def first_step(circuit: Circuit, seed: int = 0) -> tuple[np.ndarray, Batch]:
    """Random weights of deviation 0.1 in fixed point, and a random batch of `digits`, both drawn from `seed`."""
    generator = np.random.default_rng(seed)
    weights = np.rint(generator.normal(scale=0.1, size=(circuit.features, CLASSES)) * 2**WEIGHT_BITS)
    points = training_points(task("digits"))
    chosen = generator.choice(len(points), circuit.batch_size, replace=False)
    return weights.astype(np.int64), pixel_batch(points.take(chosen), side=round(circuit.features**0.5))


def step(circuit: Circuit, weights: np.ndarray, batch: Batch) -> np.ndarray:
    """W -> W', int64 (features, classes): the circuit's step, without a proof. Raises ValueError outside its range."""
    if not circuit.fits(weights, batch):
        ranges = f"weights below {LARGEST_WEIGHT}, pixels 0 to {2**PIXEL_BITS}, labels 0 to {CLASSES - 1}"
        raise ValueError(f"weights and batch must be int64, with the shapes of {circuit} and {ranges}")
    gradient = batch.images.T @ (batch.images @ weights - batch.targets)
    moved = (weights << circuit.shift) - gradient
    rounded = (np.abs(moved) + (1 << (circuit.shift - 1))) >> circuit.shift  # halves away from zero
    return np.sign(moved) * rounded


def setup(circuit: Circuit) -> Keys:
    """Compiles the step and makes its keys, once: they are kept in the cache. Raises ModuleNotFoundError without ezkl.

    A verifier runs this itself, since the party that makes the SRS could forge.
    """
    ezkl = load_ezkl()
    place = cache_folder("snark", circuit=asdict(circuit), ezkl=version("ezkl"))
    if place.exists():  # also where nothing can be written
        return read_keys(circuit, place)
    with made_alone(place), TemporaryDirectory(dir=place.parent, ignore_cleanup_errors=True) as unfinished:
        if not place.exists():
            made = Path(unfinished)
            ezkl.gen_srs(str(made / "srs"), compile_step(circuit, made))
            make_keys(made)
            made.rename(place)
    return read_keys(circuit, place)


def read_keys(circuit: Circuit, folder: Path) -> Keys:
    settings = json.loads((folder / "settings.json").read_text())
    return Keys(circuit, folder, settings["num_rows"], settings["run_args"]["logrows"])


def load_ezkl() -> ModuleType:
    """ezkl, which no other part of polkit needs. Raises ModuleNotFoundError, with what to install."""
    logging.getLogger("ezkl").setLevel(logging.ERROR)  # it warns that whole numbers "may impact precision"
    try:
        import ezkl
        import onnx  # noqa: F401
    except ImportError as error:
        raise ModuleNotFoundError("proofs of computation need ezkl and onnx: pip install 'polkit[snark]'") from error
    return ezkl


def compile_step(circuit: Circuit, folder: Path) -> int:
    """Writes step.onnx, settings.json and step.ezkl; returns the logrows for which an SRS is needed."""
    ezkl = load_ezkl()
    graph, settings = str(folder / "step.onnx"), folder / "settings.json"
    write_graph(circuit, graph)
    arguments = ezkl.PyRunArgs()
    arguments.input_scale = arguments.param_scale = 0  # whole numbers
    # Quotient and remainder in digits of 10 bits: a table of 2^10 values needs few rows, which are what proving costs.
    arguments.decomp_base, arguments.decomp_legs = 2**10, 3
    arguments.disable_freivalds = not circuit.freivalds
    arguments.ignore_range_check_inputs_outputs = True  # all are public: the verifier sees that they are small
    arguments.num_inner_cols = 1
    ezkl.gen_settings(graph, str(settings), py_run_args=arguments)
    # A quarter of the rows of one column: ezkl then lays out three or four, and leaves less of the last one empty.
    arguments.logrows = max(12, json.loads(settings.read_text())["num_rows"].bit_length() - 2)
    ezkl.gen_settings(graph, str(settings), py_run_args=arguments)
    ezkl.compile_circuit(graph, str(folder / "step.ezkl"), str(settings))
    return arguments.logrows


def make_keys(folder: Path) -> None:
    """Writes proving.key and verifying.key of the compiled step, from `srs` beside it."""
    load_ezkl().setup(*(str(folder / name) for name in ("step.ezkl", "verifying.key", "proving.key", "srs")))


def write_graph(circuit: Circuit, file: str) -> None:
    """The step as an ONNX graph of six nodes; torch's exporter does not export an update."""
    from onnx import TensorProto, checker, helper, save

    size, features = circuit.batch_size, circuit.features
    shapes = {"weights": (features, CLASSES), "images": (size, features), "targets": (size, CLASSES)}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    output = helper.make_tensor_value_info("updated", TensorProto.FLOAT, shapes["weights"])
    divisor = helper.make_tensor("divisor", TensorProto.FLOAT, [1], [2.0**circuit.shift])
    nodes = [
        helper.make_node("MatMul", ["images", "weights"], ["predicted"]),
        helper.make_node("Sub", ["predicted", "targets"], ["errors"]),
        helper.make_node("Transpose", ["images"], ["transposed"], perm=[1, 0]),
        helper.make_node("MatMul", ["transposed", "errors"], ["gradient"]),
        helper.make_node("Div", ["gradient", "divisor"], ["moved"]),
        helper.make_node("Sub", ["weights", "moved"], ["updated"]),
    ]
    graph = helper.make_graph(nodes, "one step of SGD", inputs, [output], [divisor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    save(model, file)
