"""The stages of bench/gpu.sh, each in a process of its own, within one budget; results as JSON and a table.

    python -m bench.gpu --out FOLDER [--tiny] [--budget 540]

The network is H-optimus-0's architecture at full size with random weights, in bfloat16. A stage that lacks a
package, fails or runs out of time is listed with the reason, and the others go on.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES, ROUNDS = 16, 5
Figures = dict[str, float | str]


def device(tiny: bool) -> Figures:
    """What this machine is, and its bfloat16 matrix rate."""
    import torch

    from bench.rates import matrix_rate

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {"device": name, "torch": torch.__version__, "bf16 matrix rate, TFLOP/s": matrix_rate() / 1e12}


def scoring(tiny: bool) -> Figures:
    """16 pages by the full-size network in memory already, and by the bundle that ships."""
    import torch

    from amf.inference import stack
    from amf.inference.job import find_stack
    from amf.inference.predict import Predictor
    from amf.model import bundle
    from bench.job import JOB, job_operations, vit_g_bundle
    from bench.rates import matrix_rate

    pages = stack.read_stack(find_stack(JOB))
    figures: Figures = {}
    for label, folder in (("ViT-g", vit_g_bundle(depth=depth_of(tiny))), ("shipped bundle", ROOT / "model")):
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        loaded = bundle.load(folder)
        predictor = Predictor(loaded)
        seconds = median_seconds(lambda predictor=predictor: predictor.predict(pages))
        figures[f"{label}: ms for {PAGES} pages"] = 1000 * seconds
        figures[f"{label}: share of the matrix rate"] = job_operations(loaded.spec) / seconds / matrix_rate()
        if torch.cuda.is_available():
            figures[f"{label}: peak GB on the device"] = torch.cuda.max_memory_allocated() / 1e9
    return figures


def jobs(tiny: bool) -> Figures:
    """Whole jobs, exec and reference-style in alternation, and a warm case of the server."""
    from amf.inference.job import find_stack
    from bench.job import JOB, REFERENCES, reference_weights, timed, vit_g_bundle
    from bench.server import Server

    name, options = REFERENCES["vit-g"]
    options = [*options, f"depth={depth_of(tiny)}"]
    model, weights = vit_g_bundle(depth=depth_of(tiny)), reference_weights(name, options)
    output = ROOT / "build" / "bench" / "output"
    output.mkdir(parents=True, exist_ok=True)
    entry = [sys.executable, str(ROOT / "inference.py"), "--input", str(JOB), "--output", str(output)]
    ours = [*entry, "--model", str(model)]
    reference = [sys.executable, "-m", "bench.reference_job", name, str(weights), str(find_stack(JOB))]
    reference += ["/dev/null", *options]
    runs: dict[str, list[tuple[float, float]]] = {"exec job": [], "reference-style job": []}
    for _ in range(1 if tiny else 3):
        runs["exec job"].append(timed(ours))
        runs["reference-style job"].append(timed(reference))
    figures: Figures = {}
    for label, results in runs.items():
        figures[f"{label}, s"] = statistics.median(seconds for seconds, _ in results)
        figures[f"{label}, peak GB of the process"] = max(memory for _, memory in results)
    figures["reference / exec job"] = figures["reference-style job, s"] / figures["exec job, s"]  # type: ignore[operator]
    server = Server(JOB, output, model)
    try:
        figures["server ready, s"] = server.ready_seconds
        figures["warm case, ms"] = 1000 * median_seconds(server.case)
    finally:
        server.stop()
    return figures


def training(tiny: bool) -> Figures:
    """LoRA at 224 px in batches of 64: patches a second, share of the matrix rate, peak memory."""
    import tempfile

    import torch

    from amf.training.recipe import override, read_recipe
    from bench.rates import matrix_rate
    from bench.train import BATCH, SMALL, draw_figures, draw_weights, train_ours

    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.safetensors"
        changes = {"model.weights": str(weights), "optimise.batch": BATCH}
        recipe = override(
            read_recipe(ROOT / "recipes" / "h-optimus-0.yaml"),
            changes | ({"model.arguments": SMALL} if tiny else {}),
        )
        parameters, tokens = draw_weights(recipe, weights)
        train = train_ours(override(recipe, {"optimise.activation_checkpointing": 0.0}), draw_figures(512))
        train()  # warms up
        rate = train()
    figures: Figures = {
        "patches/s": rate,
        "share of the matrix rate": rate * 4 * parameters * tokens / matrix_rate(),
    }
    if torch.cuda.is_available():
        figures["peak GB on the device"] = torch.cuda.max_memory_allocated() / 1e9
    return figures


STAGES: dict[str, Callable[[bool], Figures]] = {
    "device": device,
    "scoring": scoring,
    "jobs": jobs,
    "training": training,
}


def depth_of(tiny: bool) -> int:
    """Blocks of the network."""
    return 1 if tiny else 40


def median_seconds(work: Callable[[], Any]) -> float:
    """Of ROUNDS runs after one that warms up; each ends when its answers are on the CPU."""
    seconds = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def run_stage(name: str, tiny: bool, seconds: float) -> Figures:
    """One stage in a process of its own: its figures, or {"left out": reason}."""
    command = [sys.executable, "-m", "bench.gpu", "--stage", name, *(["--tiny"] if tiny else [])]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=max(seconds, 1))
    except subprocess.TimeoutExpired:
        return {"left out": "out of time"}
    lines = (done.stdout.splitlines() or [""]) if done.returncode == 0 else done.stderr.splitlines() or [""]
    return dict(json.loads(lines[-1])) if done.returncode == 0 else {"left out": lines[-1]}


def main() -> int:
    """Run all stages, or print one as JSON; 1 where a stage failed, or ran out of time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--budget", type=float, default=540, help="seconds for all stages")
    parser.add_argument("--stage", choices=STAGES)
    arguments = parser.parse_args()
    if arguments.stage:
        print(json.dumps(STAGES[arguments.stage](arguments.tiny)))
        return 0
    end, results = time.monotonic() + arguments.budget, {}
    for name in STAGES:
        results[name] = run_stage(name, arguments.tiny, end - time.monotonic())
        print(f"{name}: {results[name]}", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "gpu.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    rows = [
        f"| {stage} | {label} | {value:.4g} |"
        if isinstance(value, float)
        else f"| {stage} | {label} | {value} |"
        for stage, figures in results.items()
        for label, value in figures.items()
    ]
    table = "\n".join(["| stage | figure | value |", "|---|---|---|", *rows])
    (arguments.out / "gpu.md").write_text(table + "\n", encoding="utf-8")
    reasons = [str(figures["left out"]) for figures in results.values() if "left out" in figures]
    return int(any("No module named" not in reason for reason in reasons))


if __name__ == "__main__":
    raise SystemExit(main())
