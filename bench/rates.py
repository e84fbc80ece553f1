"""What this machine can do at most: the rate of a large matrix product."""

import time

import torch


def matrix_rate(dtype: torch.dtype = torch.bfloat16) -> float:
    """Operations/s of a large product on the GPU, or on the CPU where there is none: the best of ten."""
    cuda = torch.cuda.is_available()
    side, device = (8192, "cuda") if cuda else (2048, "cpu")
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(10):
        started = time.perf_counter()
        a @ b
        if cuda:
            torch.cuda.synchronize()
        best = max(best, 2 * side**3 / (time.perf_counter() - started))
    return best
