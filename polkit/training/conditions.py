"""What steps need of their process and machine, outside torch: memory that stays, a compiler that is there."""

import ctypes
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import torch


@cache
def keep_freed_memory() -> None:
    """Has glibc keep what torch frees, where it would give it back to the system and fetch it again at every step.

    One step of ResNet-20 on 128 colour images takes 114 ms in place of 129 (two cores). No bit changes.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option:
        m_trim_threshold, m_mmap_threshold = -1, -3
        set_option(m_mmap_threshold, 2**25)  # bytes; glibc's own limit
        set_option(m_trim_threshold, 2**31 - 1)


def require_compiler() -> None:
    """Raises ValueError where torch.compile would find no C++ compiler, or not the headers of this Python."""
    named = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if not shutil.which(named):
        raise ValueError(f"compiled steps need a C++ compiler, and {named} is not found on this machine")
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if not header.exists():
        raise ValueError(f"compiled steps need Python's C headers, and {header} does not exist")


PRECISIONS = ("float32", "bf16", "float64")
AUGMENTATIONS = ("replay", "redraw")


@dataclass(frozen=True)
class Conditions:
    """Where and how steps are computed: everything that moves a reproduction error away from zero.

    device: a torch device · precision: float32, bf16 (autocast over float32 weights) or float64 ·
    threads: of the CPU, fixed so that a run can be repeated · onednn: use the oneDNN kernels ·
    augmentation: `replay` uses the seeds a proof recorded, `redraw` draws fresh ones ·
    compiled: torch.compile fuses what stands between the convolutions of the steps that `prove` and a replay take, on a
    CPU with a C++ compiler; attacks differentiate twice, which it cannot, and stay eager.
    """

    device: str = "cpu"
    precision: str = "float32"
    threads: int = 1
    onednn: bool = True
    augmentation: str = "replay"
    compiled: bool = False

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ValueError(f"the precision {self.precision!r} must be one of {', '.join(PRECISIONS)}")
        if self.augmentation not in AUGMENTATIONS:
            raise ValueError(f"the augmentation {self.augmentation!r} must be one of {', '.join(AUGMENTATIONS)}")
        try:
            torch.device(self.device)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"there is no device {self.device!r}; cpu, cuda or cuda:1 would be one") from error
        if self.threads < 1:
            raise ValueError(f"the number of threads is {self.threads}, it must be at least 1")
        if self.compiled and self.device != "cpu":
            raise ValueError(f"steps are compiled for the device cpu only, not for {self.device!r}")

    def replace(self, **changes) -> "Conditions":
        return replace(self, **changes)

    def to_json(self) -> dict:
        """Without `compiled` where steps are not: so it was before there was the choice, and digests stay."""
        return {name: value for name, value in asdict(self).items() if name != "compiled" or value}

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, in memory and on disk."""
        return torch.float64 if self.precision == "float64" else torch.float32


@contextmanager
def applied(conditions: Conditions) -> Iterator[None]:
    """Puts process-wide settings in force and takes them back: threads, oneDNN, deterministic CUDA kernels.

    What glibc keeps of freed memory stays set.
    """
    keep_freed_memory()
    if conditions.device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"the device {conditions.device} is not to be had on this machine; cpu is")
    if conditions.compiled:
        require_compiler()
    threads = torch.get_num_threads()
    cudnn = (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    onednn = torch.backends.mkldnn.enabled
    if conditions.device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    torch.set_num_threads(conditions.threads)
    torch.backends.mkldnn.enabled = conditions.onednn
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.mkldnn.enabled = onednn
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
