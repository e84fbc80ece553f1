"""How many patches per second each augmentation set makes.

    python -m bench.augment [--device cuda] [--threads N]

Batches of 128-px patches become crops of the centre 64, 80 (the compact backbone's) and 128 px. Prints the
median of several rounds after a warm-up; the sets take turns within a round, so that a slow moment of the
machine does not fall on one of them alone.
"""

import argparse
import statistics
import time

import torch

from amf.augmentation.randomness import generator_at
from amf.augmentation.sets import AUGMENTATIONS, MIXUPS, augment, mix

FIELDS_PX = [64, 80, 128]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    generator = generator_at(0, device=arguments.device)
    shape = (arguments.batch, 3, 128, 128)
    source = torch.randint(0, 256, shape, generator=generator, device=arguments.device, dtype=torch.uint8)
    labels = torch.zeros(arguments.batch, device=arguments.device)
    domains = torch.arange(arguments.batch, device=arguments.device) % 10

    tasks = {}
    for field in FIELDS_PX:
        for name, augmentation in AUGMENTATIONS.items():
            tasks[name, field] = lambda a=augmentation, f=field: augment(a, source, generator, f)
        plain = augment(AUGMENTATIONS["none"], source, generator, field)
        for name, mixup in MIXUPS.items():
            tasks[f"mixup {name}", field] = lambda p=plain, m=mixup: mix(p, labels, m, generator, domains)

    seconds = {task: [] for task in tasks}
    for round_ in range(arguments.rounds + 1):
        for task, run in tasks.items():
            elapsed = _time(run, arguments.device)
            if round_ > 0:  # the first warms up
                seconds[task].append(elapsed)

    print(
        f"torch {torch.__version__}, {arguments.device}, {arguments.threads} threads, batch {arguments.batch}"
    )
    print(f"{'patches/s':20s}" + "".join(f"{f'{field} px':>16s}" for field in FIELDS_PX))
    for name in dict.fromkeys(name for name, _ in tasks):
        rates = [arguments.batch / statistics.median(seconds[name, field]) for field in FIELDS_PX]
        print(f"{name:20s}" + "".join(f"{rate:16,.0f}" for rate in rates))


def _time(run, device: str) -> float:
    start = time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
