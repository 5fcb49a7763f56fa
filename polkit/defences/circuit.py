"""Training steps that prove themselves: nothing to replay and no δ (Section V, "verifiable computation"; ezkl, Halo2).

The smallest model that trains, a linear classifier with a squared error, so that no softmax is needed:
L(W) = ‖XW − Y‖² / 2B and W' = W − η Xᵀ(XW − Y) / B. Everything is whole numbers: pixels in sixteenths (those of
`digits` are), weights in units of 2^-16, B and η powers of two. Both matrix products are then exact, and a step rounds
once, when it is divided back into those units: it errs by at most 2^-17 a weight, and W' has the very form in which
the next step takes it.
"""

import json
import logging
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np
import torch.nn.functional as F

from polkit.proof import cache_folder, fresh_folder, made_alone
from polkit.training import Points, polkit_home

PIXEL_BITS, WEIGHT_BITS = 4, 16


LARGEST_WEIGHT = 2**23  # in fixed point, that is 128: ezkl reads its inputs as 32-bit floats, exact up to 2^24


# Division is checked by writing quotient and remainder in three digits of 10 bits. A table of 2^10 values needs
# few rows, and rows are what proving costs: 1.2 s in one column against 6.9 s with ezkl's own 14 bits in two.
DIGIT, DIGITS = 2**10, 3


@dataclass(frozen=True)
class Circuit:
    """The shape of a step. features: pixels of an image · batch_size: B · learning_rate: η; both powers of two.

    freivalds: check each matrix product at random points (error below 2^-200) in place of each multiplication. It
    costs a second round of commitments, and pays where a product is large: at B = 4 the rows are 0.9 of those
    without, at B = 64 they are 0.36.
    """

    features: int
    batch_size: int
    classes: int = 10
    learning_rate: float = 2**-4
    freivalds: bool = False

    def __post_init__(self):
        if self.features < 1 or self.classes < 1:
            raise ValueError(f"a circuit of {self.features} pixels and {self.classes} classes has no weights")
        for name in ("batch_size", "learning_rate"):
            value = getattr(self, name)
            if value <= 0 or not float(np.log2(value)).is_integer():
                raise ValueError(f"the circuit's {name} is {value}, it must be a power of two")

    @property
    def shift(self) -> int:
        """By how many bits Xᵀ(XW − Y), in units of 2^-(2·4+16), is larger than η / B times itself in units of 2^-16."""
        return 2 * PIXEL_BITS + round(np.log2(self.batch_size / self.learning_rate))

    @property
    def weights(self) -> int:
        return self.features * self.classes

    @property
    def operations(self) -> int:
        """Of the two matrix products, 2 for a multiplication with its addition, as torch counts."""
        return 4 * self.batch_size * self.weights

    def fits(self, weights: np.ndarray, batch: "Batch") -> bool:
        """Whether these are whole numbers of the circuit's shapes."""
        shapes = ((self.features, self.classes), (self.batch_size, self.features), (self.batch_size,))
        parts = (weights, batch.images, batch.labels)
        return all(a.dtype == np.int64 and a.shape == shape for a, shape in zip(parts, shapes, strict=True))


@dataclass(frozen=True)
class Batch:
    """images: int64 (B, features), 0 to 16 sixteenths · labels: int64 (B,)."""

    images: np.ndarray
    labels: np.ndarray

    def targets(self, classes: int) -> np.ndarray:
        """Y: int64 (B, classes), 1 for the label, in the units of XW (2^-20)."""
        return np.eye(classes, dtype=np.int64)[self.labels] << (PIXEL_BITS + WEIGHT_BITS)

    def same(self, other: "Batch") -> bool:
        return np.array_equal(self.images, other.images) and np.array_equal(self.labels, other.labels)


@dataclass(frozen=True)
class Keys:
    """What setup makes in `folder`: the compiled circuit, a copy of the SRS, the proving and the verification key.

    rows: that one column would need · logrows: log2 of the rows that each column has.
    """

    circuit: Circuit
    folder: Path
    rows: int
    logrows: int


def to_fixed(weights: np.ndarray) -> np.ndarray:
    """Weights as whole multiples of 2^-16, int64."""
    return np.rint(np.asarray(weights) * 2**WEIGHT_BITS).astype(np.int64)


def pixel_batch(points: Points, side: int = 8) -> Batch:
    """Images (n, 1, height, width), averaged to `side` x `side` pixels and rounded to sixteenths."""
    pooled = F.adaptive_avg_pool2d(points.images.double(), side)
    images = np.rint(pooled.flatten(1).numpy() * (2**PIXEL_BITS / 255)).astype(np.int64)
    return Batch(images, points.labels.numpy())


def step(circuit: Circuit, weights: np.ndarray, batch: Batch) -> np.ndarray:
    """The same step as the circuit's, without a proof: int64 (features, classes) -> the same.

    Raises ValueError if weights or batch have another shape or lie outside the range that the circuit holds for.
    """
    if not circuit.fits(weights, batch):
        raise ValueError(f"weights and batch must be int64, with the shapes of {circuit}")
    if np.abs(weights).max() >= LARGEST_WEIGHT:
        raise ValueError(f"a weight is {np.abs(weights).max()}, the circuit holds for less than {LARGEST_WEIGHT}")
    gradient = batch.images.T @ (batch.images @ weights - batch.targets(circuit.classes))
    moved = (weights << circuit.shift) - gradient
    rounded = (np.abs(moved) + (1 << (circuit.shift - 1))) >> circuit.shift  # halves away from zero
    return np.sign(moved) * rounded


def setup(circuit: Circuit) -> Keys:
    """Compiles the step and makes its keys, once: they are kept in the cache.

    A verifier runs this itself: whoever makes the SRS could forge. It is made here and not by a ceremony, so it
    convinces those who trust this machine. Raises ModuleNotFoundError without ezkl.
    """
    load_ezkl()
    place = cache_folder("snark", circuit=asdict(circuit), ezkl=version("ezkl"))
    with made_alone(place):
        if not place.exists():
            made = fresh_folder(place)
            logrows = compile_step(circuit, made)
            # A copy, since the keys are worth nothing with any other.
            shutil.copy(reference_string(logrows), made / "srs")
            make_keys(made)
            made.rename(place)
    return read_keys(circuit, place)


def read_keys(circuit: Circuit, folder: Path) -> Keys:
    settings = json.loads((folder / "settings.json").read_text())
    return Keys(circuit, folder, settings["num_rows"], settings["run_args"]["logrows"])


def reference_string(logrows: int) -> Path:
    """The SRS for circuits of 2^logrows rows, 128 bytes a row, made on this machine and kept in the cache."""
    file = polkit_home() / "snark" / f"srs-{logrows}"
    with made_alone(file):
        if not file.exists():
            made = file.with_name(file.name + ".partial")
            load_ezkl().gen_srs(str(made), logrows)
            made.rename(file)
    return file


def load_ezkl() -> ModuleType:
    """ezkl, which no other part of polkit needs. Raises ModuleNotFoundError, with what to install."""
    # ezkl warns that whole numbers "may impact precision"; it means fractions that were rounded to them.
    logging.getLogger("ezkl").setLevel(logging.ERROR)
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
    arguments.decomp_base, arguments.decomp_legs = DIGIT, DIGITS
    arguments.disable_freivalds = not circuit.freivalds
    # All inputs and outputs are public: the verifier sees that they are small.
    arguments.ignore_range_check_inputs_outputs = True
    arguments.num_inner_cols = 1
    ezkl.gen_settings(graph, str(settings), py_run_args=arguments)
    # A quarter of the rows that would hold all in one column: ezkl then lays out three or four of them, which leaves
    # less of the last power of two empty.
    arguments.logrows = max(12, json.loads(settings.read_text())["num_rows"].bit_length() - 2)
    ezkl.gen_settings(graph, str(settings), py_run_args=arguments)
    ezkl.compile_circuit(graph, str(folder / "step.ezkl"), str(settings))
    return arguments.logrows


def make_keys(folder: Path) -> None:
    """Writes proving.key and verifying.key of the compiled step, from `srs` beside it."""
    names = ("step.ezkl", "verifying.key", "proving.key", "srs")
    load_ezkl().setup(*(str(folder / name) for name in names))


def write_graph(circuit: Circuit, file: str) -> None:
    """The step as an ONNX graph of six nodes, written out because torch's exporter does not export an update."""
    from onnx import TensorProto, checker, helper, save

    shapes = {
        "weights": (circuit.features, circuit.classes),
        "images": (circuit.batch_size, circuit.features),
        "targets": (circuit.batch_size, circuit.classes),
    }
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    output = helper.make_tensor_value_info("updated", TensorProto.FLOAT, shapes["weights"])
    divisor = helper.make_tensor("divisor", TensorProto.FLOAT, [1], [2.0**circuit.shift])
    nodes = [
        helper.make_node(kind, taken, [given], **how)
        for kind, taken, given, how in (
            ("MatMul", ["images", "weights"], "predicted", {}),
            ("Sub", ["predicted", "targets"], "errors", {}),
            ("Transpose", ["images"], "transposed", {"perm": [1, 0]}),
            ("MatMul", ["transposed", "errors"], "gradient", {}),
            ("Div", ["gradient", "divisor"], "moved", {}),
            ("Sub", ["weights", "moved"], "updated", {}),
        )
    ]
    graph = helper.make_graph(nodes, "one step of SGD", inputs, [output], [divisor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    save(model, file)
