"""Many files: `amf predict` over a folder of PNG patches, against a DataLoader and the physical floor.

    python -m bench.predict FOLDER [--rounds 5] [--model DIR]

Both run in alternation, each in a process of its own; medians of the files a second once loaded, and ratios,
are printed. The floor is the files' bytes at the measured read speed, plus the operations at the measured
matrix rate: decoding is not in it. Memory is shown for the folder and for one of ten times its files, which
should need no more.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from amf.bulk.items import find_items
from amf.model import bundle
from amf.model.device import DTYPES, compute_dtype
from bench.job import PAGES, ROOT, job_operations, read_speed
from bench.rates import matrix_rate

PREDICT = """
import resource, sys
from amf.cli import main
code = main(["predict", *sys.argv[1:]])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""
COPIES = 10


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of PNG patches")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", type=Path, default=ROOT / "model")
    arguments = parser.parse_args()
    files = [item.path for item in find_items([str(arguments.folder)])]
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    print(f"{len(files)} files, {arguments.rounds} rounds", flush=True)

    rates: dict[str, list[float]] = {"amf predict": [], "DataLoader": []}
    with tempfile.TemporaryDirectory(dir=arguments.folder.resolve().parent) as name:
        work = Path(name)
        for round_ in range(arguments.rounds + 1):  # the first round warms up and is not counted
            measured = {
                "amf predict": predict(arguments.folder, arguments.model, work)[0],
                "DataLoader": reference(arguments.folder, arguments.model),
            }
            for label, rate in measured.items() if round_ else ():
                rates[label].append(rate)
        for label, values in rates.items():
            median, spread = statistics.median(values), f"{min(values):.0f} to {max(values):.0f}"
            print(f"{label:12} {median:6.0f} files a second ({spread})")
        ours, theirs = (statistics.median(values) for values in rates.values())
        floor = 1 / seconds_a_file(files, arguments.model)
        print(f"{'floor':12} {floor:6.0f} files a second")
        print(f"amf predict / DataLoader {ours / theirs:.2f}   floor / amf predict {floor / ours:.2f}")

        few = predict(arguments.folder, arguments.model, work)[1]
        many = predict(multiplied(files, work / "many"), arguments.model, work)[1]
        print(f"peak memory {few:.2f} GB, of {COPIES} times the files {many:.2f} GB")
    return 0


def predict(folder: Path, model: Path, work: Path) -> tuple[float, float]:
    """Files a second once loaded, and the peak of resident memory in GB, of one `amf predict`."""
    output = work / "predictions.csv"
    output.unlink(missing_ok=True)
    command = [sys.executable, "-c", PREDICT, str(folder), "--output", str(output), "--model", str(model)]
    said = run([*command, "--device", "cpu"])
    return rate_in(said), int(re.findall(r"peak (\d+)", said)[0]) * 1024 / 1e9


def reference(folder: Path, model: Path) -> float:
    """Files a second of the DataLoader once the network is loaded."""
    return rate_in(run([sys.executable, "-m", "bench.reference_predict", str(folder), str(model)]))


def run(command: list[str]) -> str:
    """What a command says on stdout."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr}")
    return done.stdout


def rate_in(said: str) -> float:
    """Files a second, from "scored N files in S s"; more digits than the line rounds to are not needed."""
    return float(re.findall(r"(\d+) a second", said)[0])


def seconds_a_file(files: list[Path], model: Path) -> float:
    """What physics asks for on this machine: reading and the network, all cores at work."""
    spec = bundle.read_spec(model)
    dtype = compute_dtype(DTYPES[spec.members[0].dtype], torch.device("cpu"))
    size = statistics.mean(file.stat().st_size for file in files)
    return size / read_speed() + job_operations(spec) / PAGES / matrix_rate(dtype)


def multiplied(files: list[Path], folder: Path) -> Path:
    """A folder of COPIES hard links to each file."""
    folder.mkdir()
    for number, file in enumerate(files * COPIES):
        os.link(file, folder / f"{number}.png")
    return folder


if __name__ == "__main__":
    raise SystemExit(main())
