"""Where and in which type a network is computed, and how its memory is held."""

import ctypes
import sys

import torch

from amf.errors import AmfError
from amf.model.cores import available_cores

DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.int8,
}
"""The types that weights may be stored in, by the name that a bundle gives them.

With int8 the backbone's linear layers are so, each output with a float32 scale; all else is bfloat16.
"""


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Options of glibc's mallopt."""


def float_dtype(stored: torch.dtype) -> torch.dtype:
    """The type of what a bundle stores in floating point."""
    return torch.bfloat16 if stored == torch.int8 else stored


class DeviceError(AmfError):
    """CUDA was asked for, and no CUDA device is available."""

    exit_code = 2


def choose_device(name: str) -> torch.device:
    """Resolve "auto", "cpu" or "cuda"; raises DeviceError if CUDA is asked for and absent.

    A CUDA device is named by its number, because the current device differs between threads.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise DeviceError("device cuda was asked for, but no CUDA device is available")
    if name == "cpu" or not available:
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def compute_dtype(stored: torch.dtype, device: torch.device) -> torch.dtype:
    """Choose the type to compute in.

    Weights stored in full precision are computed in it. Half-precision and int8 weights are computed in a
    half type that the device has natively: theirs on GPUs from compute capability 8 on; float16 on older
    GPUs, where bfloat16 is emulated and slow; bfloat16 on CPUs with AVX-512 BF16; else float32.
    """
    stored = float_dtype(stored)
    if stored == torch.float32:
        return stored
    if device.type == "cuda":
        return stored if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    return torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16") else torch.float32


def keep_freed_memory() -> None:
    """Have glibc's malloc reuse freed blocks of up to 32 MiB, where it would give them back to the system.

    Its measure is the largest block that it has seen freed. Else activations are new memory at every
    operation, which the system clears page by page: a tenth of the compact network's time, and a quarter of a
    training step of EfficientNet-Lite0.
    """
    torch.empty((32 << 20) - (64 << 10), dtype=torch.uint8)


def share_freed_memory() -> None:
    """Have glibc's malloc serve all threads from one heap, which keeps what they free.

    For a process whose threads score side by side, before the first of them starts. Else each has a heap of
    its own, in pieces of 64 MiB that are given back and cleared anew: 3 to 10 times as many page faults as
    with this, a tenth of the processor time of the networks that ship.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for option, value in ((M_MMAP_THRESHOLD, 32 << 20), (M_TRIM_THRESHOLD, 2**31 - 1), (M_ARENA_MAX, 1)):
            libc.mallopt(option, value)


def use_available_cores() -> None:
    """Have torch use no more threads than there are cores to use; OMP_NUM_THREADS may ask for fewer."""
    if (cores := available_cores()) < torch.get_num_threads():
        torch.set_num_threads(cores)
