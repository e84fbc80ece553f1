"""The learning rate of each step."""

import math


def learning_rate(step: int, total_steps: int, warmup: float, peak: float) -> float:
    """Linear warm-up over the share `warmup` of all steps to `peak`, then half a cosine down to zero.

    A function of the step, from 0, alone: a run that goes on in the middle needs no scheduler's state.
    """
    warmup_steps = warmup * total_steps
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    return peak * (0.5 + 0.5 * math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps)))
