"""Where and how steps are computed, and the process-wide settings that this takes."""

import ctypes
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from threading import Condition, local

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from polkit.training.task import whole

PRECISIONS = ("float32", "bf16", "float64")
AUGMENTATIONS = ("replay", "redraw")
THREADS_PER_CORE = 16  # more than anybody wants; a few thousand would exhaust the system


@dataclass(frozen=True)
class Conditions:
    """Where and how steps are computed: everything that moves a reproduction error away from zero."""

    device: str = "cpu"  # a torch device
    precision: str = "float32"  # (on CUDA convolutions in TF32), or bf16 (autocast over float32 weights), or float64
    threads: int = 1  # of the CPU, fixed so that a run can be repeated
    onednn: bool = True  # whether the oneDNN kernels are used
    augmentation: str = "replay"  # what a replay takes: the seeds that a proof recorded; `redraw`: fresh ones
    compiled: bool = False  # by torch.compile; on a CPU, and never an attack's steps: it cannot differentiate twice

    def __post_init__(self):
        for name, known in (("precision", PRECISIONS), ("augmentation", AUGMENTATIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"the {name} {getattr(self, name)!r} must be one of {', '.join(known)}")
        try:
            torch.device(self.device)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"there is no device {self.device!r}; cpu, cuda or cuda:1 would be one") from error
        object.__setattr__(self, "threads", whole("threads", self.threads, 1))
        if self.compiled and self.device != "cpu":
            raise ValueError(f"steps are compiled for the device cpu only, not for {self.device!r}")

    def replace(self, **changes) -> "Conditions":
        return replace(self, **changes)

    def to_json(self) -> dict:
        """Without `compiled` where steps are not, so that digests are those from before there was the choice."""
        return {name: value for name, value in asdict(self).items() if name != "compiled" or value}

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, in memory and on disk."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def mixed(self) -> AbstractContextManager:
        """The context of a forward pass: in bf16 if that is the precision."""
        if self.precision != "bf16":
            return nullcontext()
        kind = torch.device(self.device).type
        if kind == "cpu" and not self.compiled and "AVX512" not in torch.backends.cpu.get_cpu_capability():
            return RoundedProducts()
        return torch.autocast(kind, dtype=torch.bfloat16)


class RoundedProducts(TorchFunctionMode):
    """What autocast does in bf16, on float32 kernels: for a CPU without bf16 instructions, where its own are slow.

    Convolutions and linear layers round what they are given and what they return. Products of two bf16 numbers are
    exact in float32, in which bf16 kernels sum them too.
    """

    def __torch_function__(self, function, types, arguments=(), named=None):
        if function not in (F.linear, F.conv2d):
            return function(*arguments, **(named or {}))
        rounded = [value.bfloat16().float() if isinstance(value, torch.Tensor) else value for value in arguments]
        return function(*rounded, **(named or {})).bfloat16()


_changed, _here = Condition(), local()  # _here.held: what this thread has put in force
# For each thread that computes now: what is in force, the same for all, and what was before the first of them.
_computing: list[tuple[tuple[int, bool], tuple[bool, ...]]] = []


def _enter(held: tuple[int, bool]) -> int:
    """Puts settings in force as soon as no thread computes under others; returns the thread's own number before."""
    cudnn, onednn, threads = torch.backends.cudnn, torch.backends.mkldnn, torch.get_num_threads()
    with _changed:
        _changed.wait_for(lambda: not _computing or held == _computing[0][0])
        before = _computing[0][1] if _computing else (cudnn.deterministic, cudnn.benchmark, onednn.enabled)
        _computing.append((held, before))
        _here.held = held
        torch.set_num_threads(held[0])  # each thread has a number of its own
        cudnn.deterministic, cudnn.benchmark, onednn.enabled = True, False, held[1]
    return threads


def _leave(threads: int) -> None:
    cudnn, onednn = torch.backends.cudnn, torch.backends.mkldnn
    with _changed:
        torch.set_num_threads(threads)
        (_, before), _here.held = _computing.pop(), None
        if not _computing:
            cudnn.deterministic, cudnn.benchmark, onednn.enabled = before
        _changed.notify_all()


@contextmanager
def applied(conditions: Conditions) -> Iterator[None]:
    """Puts process-wide settings in force and takes them back: threads, oneDNN, deterministic CUDA kernels.

    Who wants others than those in force waits until nobody computes under these; so what a block has other threads do
    must want the block's own. A block within a block of other settings lets other threads compute under either.
    Raises ValueError if this machine lacks the device, the threads, or what compiled steps need.
    """
    require_machine(conditions)
    keep_freed_memory()
    wanted, outer = (conditions.threads, conditions.onednn), getattr(_here, "held", None)
    with ExitStack() as after:
        if wanted != outer:
            if outer:
                _leave(outer[0])
                after.callback(_enter, outer)
            after.callback(_leave, _enter(wanted))
        yield


def require_machine(conditions: Conditions) -> None:
    device, most = torch.device(conditions.device), THREADS_PER_CORE * (os.cpu_count() or 1)
    # Torch also knows devices that compute nothing, such as meta, and others by their name alone.
    if (device.index or 0) >= getattr(getattr(torch, device.type, None), "device_count", int)():
        raise ValueError(f"the device {conditions.device} is not to be had on this machine; cpu is")
    if conditions.threads > most:
        raise ValueError(f"{conditions.threads} threads are asked for, and this machine has use for {most} at most")
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    if conditions.compiled:
        require_compiler()


@cache
def keep_freed_memory() -> None:
    """Has glibc keep what torch frees: otherwise every step gives memory back to the system and fetches it again."""
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        ctypes.CDLL(None).mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, in bytes: glibc's own limit
        ctypes.CDLL(None).mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def require_compiler() -> None:
    """Raises ValueError where torch.compile would find no C++ compiler, or not the headers of this Python."""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if not shutil.which(compiler):
        raise ValueError(f"compiled steps need a C++ compiler, and {compiler} is not found on this machine")
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if not header.exists():
        raise ValueError(f"compiled steps need Python's C headers, and {header} does not exist")
