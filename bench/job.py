"""Cold start: a whole job from exec to JSON, against a reference-style job and against the physical floor.

    python -m bench.job [compact] [vit-g] [--rounds 5] [--cold]

Our job and the reference run in alternation, each in a process of its own; medians and ratios are printed.
`vit-g` is H-optimus-0's architecture at full size with random weights, as bfloat16 and as int8 (about 8 GB in
build/bench);
`compact` is the bundle in model/, whose reference is EfficientNetV2-M. --cold drops the page cache before
each run (root only). The floor is a bare `import torch`, plus the bytes of weights at the measured read
speed, plus the operations at the measured matrix rate of the type the job computes in. The last lines are
those of the invoke server (bench/server.py).
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from amf.inference.job import find_stack
from amf.model import bundle
from amf.model.classifier import Classifier
from amf.model.device import DTYPES, compute_dtype
from amf.model.digest import FILE_NAME
from amf.model.int8 import store_as_int8
from amf.model.spec import BundleSpec
from amf.model.torchvision_shim import ensure_torchvision
from bench.rates import matrix_rate
from bench.server import print_server
from bench.vit_g import member as vit_g_member

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench"
JOB = ROOT / "test" / "input" / "tiff"
PAGES = 16
TIMER = """
import os, resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
REFERENCES = {
    "vit-g": ("vit_giant_patch14_reg4_dinov2", ["img_size=224", "init_values=1e-5"]),
    "compact": ("tf_efficientnetv2_m", []),
}


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", choices=["compact", "vit-g"], default=["compact"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="drop the page cache before each run")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    for what in arguments.what:
        measure(what, arguments.rounds, arguments.cold)
    return 0


def measure(what: str, rounds: int, cold: bool) -> None:
    """Alternate the three processes, then print seconds, ratios, memory, floor and breakdown."""
    model = ROOT / "model" if what == "compact" else vit_g_bundle()
    name, options = REFERENCES[what]
    weights = reference_weights(name, options)
    output = WORK / "output"
    output.mkdir(exist_ok=True)
    python = sys.executable
    ours = [
        python,
        str(ROOT / "inference.py"),
        "--input",
        str(JOB),
        "--output",
        str(output),
        "--model",
        str(model),
    ]
    stack = str(find_stack(JOB))
    reference = [
        python,
        str(ROOT / "bench" / "reference_job.py"),
        name,
        str(weights),
        stack,
        "/dev/null",
        *options,
    ]
    commands = {"import torch": [python, "-c", "import torch"], "job": ours, "reference": reference}
    if what == "vit-g":
        commands["job, int8"] = [*ours[:-1], str(vit_g_bundle("int8"))]
    runs: dict[str, list[tuple[float, float]]] = {label: [] for label in commands}
    for round_ in range(rounds + 1):  # the first round warms up and is not counted
        for label, command in commands.items():
            if cold:
                drop_page_cache()
            result = timed(command)
            if round_ > 0:
                runs[label].append(result)
    print(f"\n== {what}: {PAGES} pages, {len(runs['job'])} rounds{', page cache dropped' if cold else ''}")
    median = {label: statistics.median(seconds for seconds, _ in results) for label, results in runs.items()}
    for label, results in runs.items():
        spread = f"{min(s for s, _ in results):.2f} to {max(s for s, _ in results):.2f}"
        print(f"{label:13} {median[label]:7.2f} s ({spread})   peak {max(m for _, m in results):6.2f} GB")
    print(
        f"job / import torch {median['job'] / median['import torch']:.2f}   "
        f"reference / job {median['reference'] / median['job']:.2f}"
    )
    floor = print_floor(model, median["import torch"])
    print(f"job / floor {median['job'] / floor:.2f}")
    for folder in dict.fromkeys(Path(command[-1]) for label, command in commands.items() if "job" in label):
        stages = breakdown(folder)
        spec = bundle.read_spec(folder)
        dtype = compute_dtype(DTYPES[spec.members[0].dtype], torch.device("cpu"))
        products = job_operations(spec) / matrix_rate(dtype)
        print(f"breakdown of one job of {spec.members[0].dtype} weights, s: {stages}")
        print(f"scoring / its products at the {dtype} matrix rate {stages['score'] / products:.2f}")
    print_server(JOB, output, model, rounds, lambda: timed(ours)[0])


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds from exec to exit, and peak resident memory in GB."""
    # Started from a process of a few MB: a child's peak includes what its parent held when it forked.
    done = subprocess.run(
        [sys.executable, "-S", "-c", TIMER, *command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr}")
    seconds, kilobytes = done.stdout.split()
    return float(seconds), float(kilobytes) * 1024 / 1e9


def breakdown(model: Path) -> dict[str, float]:
    """The stages of one job, timed inside a fresh process."""
    script = """
import json, sys, time
from pathlib import Path
marks = [("start", time.perf_counter())]
from amf.model import digest
digest.begin(Path(sys.argv[2]))
import torch; marks.append(("import torch", time.perf_counter()))
from amf.inference import job, predict, stack
from amf.model import bundle; marks.append(("import amf", time.perf_counter()))
patches = stack.read_stack(job.find_stack(Path(sys.argv[1])))
marks.append(("read stack", time.perf_counter()))
loaded = bundle.load(Path(sys.argv[2])); marks.append(("load and verify weights", time.perf_counter()))
predictor = predict.Predictor(loaded, "cpu"); marks.append(("to device", time.perf_counter()))
answers = predictor.predict(patches); marks.append(("score", time.perf_counter()))
job.write_predictions(Path(sys.argv[3]), answers); marks.append(("write", time.perf_counter()))
print(json.dumps({b[0]: round(b[1] - a[1], 3) for a, b in zip(marks, marks[1:])}))
"""
    command = [sys.executable, "-c", script, str(JOB), str(model), str(WORK / "output")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def print_floor(model: Path, import_seconds: float) -> float:
    """What physics asks for on this machine."""
    spec = bundle.read_spec(model)
    size = sum((model / member.weights).stat().st_size for member in spec.members)
    dtype = compute_dtype(DTYPES[spec.members[0].dtype], torch.device("cpu"))
    operations, read, rate = job_operations(spec), read_speed(), matrix_rate(dtype)
    seconds = import_seconds + size / read + operations / rate
    print(
        f"floor {seconds:.2f} s = import torch {import_seconds:.2f} "
        f"+ {size / 1e9:.3f} GB at {read / 1e9:.1f} GB/s "
        f"+ {operations / 1e12:.3f} TFLOP at {rate / 1e12:.2f} TFLOP/s ({dtype})"
    )
    return seconds


def job_operations(spec: BundleSpec) -> float:
    """Floating-point operations of one stack, counted by torch over a pass on the meta device."""
    from torch.utils.flop_counter import FlopCounterMode

    total = 0.0
    for member in spec.members:
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            side = member.image.input_px
            Classifier(member.backbone, member.arguments, member.head).eval()(torch.empty(1, 3, side, side))
        total += counter.get_total_flops() * PAGES * member.views
    return total


def read_speed() -> float:
    """Bytes/s of reading a file of the page cache, on all cores' worth of one reader."""
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / "read-speed"
    path.write_bytes(bytes(256 << 20))
    started = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.read(8 << 20):
            pass
    seconds = time.perf_counter() - started
    path.unlink()
    return (256 << 20) / seconds


def drop_page_cache() -> None:
    """Make the next process read from disk."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def vit_g_bundle(dtype: str = "bfloat16", depth: int = 40) -> Path:
    """H-optimus-0's architecture of so many blocks, with random weights, as a bundle."""
    folder = WORK / "-".join(
        ["vit-g", *([dtype] if dtype != "bfloat16" else []), *([str(depth)] if depth != 40 else [])]
    )
    if not (folder / FILE_NAME).is_file():
        print(f"writing a full-size ViT-g/14 bundle with random weights in {dtype}", flush=True)
        spec = dataclasses.replace(vit_g_member(depth), dtype=dtype)
        with torch.device("meta"):
            model = Classifier(spec.backbone, spec.arguments, spec.head, to_serve=True)
            if dtype == "int8":
                store_as_int8(model.backbone)
        generator = torch.Generator().manual_seed(0)
        state = {
            name: random_like(t, generator, bundle.stored_dtype(name, t, DTYPES[dtype]))
            for name, t in model.state_dict().items()
        }
        bundle.write(
            folder, BundleSpec("vit-g-random", 1.0, 0.5, "nothing: random weights", (spec,)), [state]
        )
    return folder


def reference_weights(name: str, options: list[str]) -> Path:
    """The reference's weights, random, as torch.save writes them in fp32."""
    path = WORK / f"{'-'.join([name, *options])}.pth"
    if not path.is_file():
        WORK.mkdir(parents=True, exist_ok=True)
        ensure_torchvision()
        import timm

        arguments = {key: json.loads(value) for key, value in (option.split("=") for option in options)}
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=1, **arguments)
        generator = torch.Generator().manual_seed(0)
        state = {key: random_like(t, generator, torch.float32) for key, t in model.state_dict().items()}
        torch.save(state, path)
    return path


def random_like(tensor: torch.Tensor, generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
    """Small random values of a tensor's shape, not below zero, as running variances must not be."""
    if tensor.dtype == torch.int8:
        return torch.randint(-127, 128, tensor.shape, generator=generator, dtype=torch.int8)
    if not tensor.is_floating_point():
        return torch.zeros(tensor.shape, dtype=tensor.dtype)
    return torch.rand(tensor.shape, generator=generator).mul_(0.04).to(dtype)


if __name__ == "__main__":
    raise SystemExit(main())
