"""The paper from nothing to its container: each stage is other modules' functions, and leaves a record."""

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pandas import DataFrame
from PIL import Image

from amf.data.fetch import fetch
from amf.data.figures import PATCHES, TABLE, Figures, open_figures
from amf.data.packed import open_packed
from amf.data.prepare import prepare
from amf.data.recipe import load_data_recipe
from amf.data.repositories import DATASETS, Record
from amf.data.splits import leave_one_domain_out
from amf.errors import DataError
from amf.evaluation import predictions as evaluated
from amf.evaluation import report as evaluation_report
from amf.evaluation import summary as evaluation_summary
from amf.experiments import paper
from amf.experiments.ablation import ABLATION, ablation_runs, collect_ablation
from amf.experiments.calibration import CALIBRATION, Calibration, calibrate
from amf.experiments.final import bundle_final, run_final
from amf.experiments.folds import run_missing, slug
from amf.experiments.lodo import OUT_OF_FOLD, SUMMARY, Lodo, collect_lodo, lodo_runs, member_name, read_lodo
from amf.experiments.plan import Plan
from amf.experiments.preflight import (
    PATCH_BYTES,
    Check,
    check_disk,
    check_download,
    check_hours,
    check_recipe,
    run_bytes,
)
from amf.experiments.record import markdown, versions
from amf.experiments.reproduction import write_page
from amf.experiments.scores import DEFINITIONS, compare_lodo, ranking
from amf.files import write_text, written_whole
from amf.inference.predict import Predictor
from amf.inference.sockets import INPUT_SOCKET, OUTPUT_NAME
from amf.model import bundle
from amf.model.digest import FILE_NAME, file_digest
from amf.training.learner import BEST
from amf.training.pretrained import weights_file
from amf.training.recipe import BASELINE, Recipe

RECORDS = "stages"
PAGE = "reproduction.html"
REPOSITORY = Path(__file__).resolve().parents[2]
STACK_PAGES = 16
CLOSE = 0.02
"""By this much a container's confidences may differ from ours: another type on another device."""

Result = dict[str, Any]


@dataclass
class Work:
    """One reproduction: its plan, its folder, where the data sets lie, how a licence is accepted.

    Attributes
    ----------
    results : of the stages that are done, by name.
    """

    plan: Plan
    out: Path
    root: Path
    accept: Callable[[Record], bool]
    results: dict[str, Result] = field(default_factory=dict)

    @property
    def figures(self) -> Figures:
        """The paper's figures, as the stage `table` left them."""
        return open_figures(self.out / "data")

    @property
    def ablation_figures(self) -> Figures:
        """Table 1's figures."""
        return open_figures(self.out / "data-ablation")

    def lodo_folder(self, recipe: Recipe) -> Path:
        """Where a recipe's LODO run lies."""
        return self.out / "lodo" / slug(recipe.name)

    @property
    def chosen(self) -> Recipe:
        """The combination that the grid chose."""
        name = self.results["grid"]["chosen"]
        return next(recipe for recipe in self.plan.grid_recipes() if recipe.name == name)

    @property
    def chosen_lodo(self) -> Lodo:
        """Its LODO run."""
        return read_lodo([self.lodo_folder(self.chosen)])


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes
    ----------
    needs : stages whose results it takes; their digest is among its inputs.
    settings : what of the plan it takes, as JSON.
    run : does it, returns its result: a few values and digests, as JSON.
    outputs : what it leaves below the output folder, or the data sets' folder; a done stage has them all.
    """

    needs: tuple[str, ...]
    settings: Callable[[Work], Any]
    run: Callable[[Work], Result]
    outputs: Callable[[Work], list[Path]]


def _dump(recipes: list[Recipe]) -> list[dict[str, Any]]:
    return [recipe.model_dump(mode="json") for recipe in recipes]


# ---- the stages, in their order


def _fetch(work: Work) -> Result:
    sets = {}
    for name, names in work.plan.fetch.items():
        records = fetch(name, work.root, work.accept, names)
        print(f"{name}: {'fetched, as in the record' if records else 'there already'}", flush=True)
        sets[name] = [{"page": r.page, "licence": r.licence, "files": dict(r.checksums)} for r in records]
    weights = {}
    for recipe in [*work.plan.recipes(), work.plan.ablation_recipe()]:
        if recipe.model.weights == "random":
            weights[recipe.name] = "random"
            continue
        path = weights_file(recipe.model.backbone, recipe.model.weights)
        weights[recipe.name] = f"{recipe.model.weights}, {path.name}, SHA-256 {file_digest(path)}"
        print(f"weights of {recipe.name}: {path}", flush=True)
    return {"data": sets, "weights": weights}


def _table(work: Work) -> Result:
    table_hash = prepare(load_data_recipe(work.plan.data), work.root, work.out / "data")
    ablation = prepare(load_data_recipe(work.plan.ablation.data), work.root, work.out / "data-ablation")
    table = work.figures.table
    counts = {
        "figures": len(table),
        "AMF": int(table["label"].sum()),
        "slides": int(table["slide"].nunique()),
        "domains": int(table["domain"].nunique()),
    }
    return {"table": table_hash, "ablation table": ablation, "counts": counts}


def _lodo(work: Work) -> Result:
    runs = {recipe.name: _run_and_collect(recipe, work) for recipe in work.plan.recipes()}
    first, *others = [work.lodo_folder(recipe) for recipe in work.plan.recipes()]
    comparisons = []
    for other in others:
        table, sentence = compare_lodo(read_lodo([first]).predictions, read_lodo([other]).predictions)
        comparisons.append(f"A = {first.name}, B = {other.name}. {sentence}")
        write_text(
            work.out / "lodo" / f"{first.name}-against-{other.name}.md",
            f"{comparisons[-1]}\n\n{markdown(table, 'domain')}\n\n{DEFINITIONS}",
        )
    return {
        "out of fold": {name: _digest(work, name) for name in runs},
        "comparisons": comparisons,
    }


def _run_and_collect(recipe: Recipe, work: Work) -> DataFrame:
    """Every fold of a recipe's LODO run, and its summary."""
    figures, folder = work.figures, work.lodo_folder(recipe)
    run_missing(lodo_runs([recipe], figures, folder), figures)
    _wait()
    collect_lodo([recipe], figures, folder)
    return _summary(folder)


def _digest(work: Work, name: str) -> str:
    return file_digest(work.out / "lodo" / slug(name) / OUT_OF_FOLD)


def _grid(work: Work) -> Result:
    runs = {recipe.name: _run_and_collect(recipe, work) for recipe in work.plan.grid_recipes()}
    ranked = ranking(runs)
    with written_whole(work.out / "lodo" / "ranking.csv") as partial:
        ranked.to_csv(partial, index_label="combination")
    print(markdown(ranked, "combination"), flush=True)
    return {"chosen": str(ranked.index[0]), "out of fold": {name: _digest(work, name) for name in runs}}


def _horizon(work: Work) -> Result:
    return {"epochs": work.chosen_lodo.horizon(work.chosen)}


def _ablation(work: Work) -> Result:
    plan, figures, out = work.plan.ablation, work.ablation_figures, work.out / "ablation"
    variants = work.plan.ablation_variants()
    runs = ablation_runs({cell: variants[cell] for cell in plan.cells}, figures, out, plan.folds)
    run_missing(runs, figures)
    _wait()
    collect_ablation(runs, figures, out)
    return {"table": file_digest(out / f"{ABLATION}.csv")}


def _final(work: Work) -> Result:
    runs = run_final([work.chosen], work.figures, work.chosen_lodo, work.out / "final")
    return {"members": {run.name: file_digest(run / BEST) for run in runs}}


def _final_run(work: Work) -> Path:
    return work.out / "final" / slug(member_name(work.chosen))


def _calibration(work: Work) -> Result:
    done = calibrate(work.chosen_lodo, work.out / "calibration")
    return {"temperature": done.temperature, "bias": done.bias, "threshold": done.threshold}


def _read_calibration(work: Work) -> Calibration:
    content = json.loads((work.out / "calibration" / f"{CALIBRATION}.json").read_text(encoding="utf-8"))
    return Calibration(**content | {"interval": tuple(content["interval"])})


def _bundle(work: Work) -> Result:
    bundle_final(
        [work.chosen],
        work.figures,
        work.chosen_lodo,
        [_final_run(work)],
        work.out / "calibration",
        work.out / "bundle",
    )
    bundle.load(work.out / "bundle")  # verifies every hash and tensor, as a job does
    return {"bundle": file_digest(work.out / "bundle" / FILE_NAME)}


def _evaluation(work: Work) -> Result:
    """The out-of-fold figures by the bundle's decision: no network has seen the domain that it scores."""
    out, spec = work.out / "evaluation", bundle.read_spec(work.out / "bundle")
    rows = work.chosen_lodo.predictions
    confidences = [_sigmoid(logit / spec.temperature + spec.bias) for logit in rows["logit"]]
    classes = ["atypical" if p >= spec.threshold else "normal" for p in confidences]
    table = rows[["image", "label", "domain", "slide"]].assign(confidence=confidences)
    table["class"] = classes
    with written_whole(out / "out-of-fold.csv") as partial:
        table.to_csv(partial, index=False)
    read = evaluated.read(out / "out-of-fold.csv")
    numbers = evaluation_summary.summarise(read, replicates=2000, seed=0)
    write_text(out / "metrics.json", json.dumps(numbers, indent=2, allow_nan=False) + "\n")
    page = evaluation_report.render(read, numbers, f"{work.plan.name}: out of fold", None)
    write_text(out / "report.html", page)
    return {"metrics": file_digest(out / "metrics.json")}


def _sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def _report(work: Work) -> Result:
    write_page(
        work.out / PAGE,
        name=work.plan.name,
        results=work.results,
        lodo={recipe.name: _summary(work.lodo_folder(recipe)) for recipe in work.plan.recipes()},
        ranking=pd.read_csv(work.out / "lodo" / "ranking.csv", index_col=0),
        chosen=work.chosen,
        out_of_fold=work.chosen_lodo.predictions,
        ablation=pd.read_csv(work.out / "ablation" / f"{ABLATION}.csv", index_col=0),
        calibration=_read_calibration(work),
        metrics=json.loads((work.out / "evaluation" / "metrics.json").read_text(encoding="utf-8")),
        spans={name: read_stage_record(work.out, name)["seconds"] for name in STAGES if name in work.results},
    )
    print(f"wrote {work.out / PAGE}", flush=True)
    return {"page": PAGE}


def _summary(folder: Path) -> DataFrame:
    return pd.read_csv(folder / f"{SUMMARY}.csv", index_col="domain")


def _image(work: Work) -> Result:
    """Score a stack in the image that holds the bundle; without a Docker engine by its entry, and say so."""
    out = work.out / "image"
    shutil.rmtree(out, ignore_errors=True)
    pages = open_packed(work.out / "data" / PATCHES).patches[:STACK_PAGES].copy()  # (16, 128, 128, 3)
    job, answers = out / "input", out / "output"
    _write_job(job, [Image.fromarray(page) for page in pages])
    answers.mkdir()
    answers.chmod(0o777)  # the container's user is nobody here
    target = work.out / "bundle"
    if _docker_answers():
        tag = f"amf-{slug(work.plan.name)}:latest"
        how = f"docker, image {tag}"
        options = os.environ.get("AMF_BUILD_OPTIONS", "").split()
        build = ["bash", str(REPOSITORY / "build.sh"), *options]
        _call(build, "the image could not be built", IMAGE=tag, MODEL=str(target.absolute()))
        command = ["docker", "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp"]
        command += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        command += [
            "--volume",
            f"{job.absolute()}:/input:ro",
            "--volume",
            f"{answers.absolute()}:/output",
            tag,
        ]
    else:
        how = "python inference.py: no Docker engine answers here, so no image was built"
        command = [sys.executable, str(REPOSITORY / "inference.py"), "--input", str(job)]
        command += ["--output", str(answers), "--model", str(target)]
    _call(command, "the stack could not be scored")
    given = json.loads((answers / OUTPUT_NAME).read_text(encoding="utf-8"))
    expected = Predictor(bundle.load(target), "auto").predict(pages)
    if len(given) != len(expected) or any(
        abs(a["confidence"] - e.confidence) > CLOSE for a, e in zip(given, expected, strict=True)
    ):
        raise DataError(
            f"{answers / OUTPUT_NAME}: its confidences are not those of {target}: the image is not sound"
        )
    print(f"scored a stack of {len(given)} figures by {how}", flush=True)
    return {"how": how, "pages": len(given), "atypical": sum(a["class"] == "atypical" for a in given)}


def _write_job(folder: Path, pages: list[Image.Image]) -> None:
    stack = folder / "images" / INPUT_SOCKET / "stack.tif"
    stack.parent.mkdir(parents=True)
    first, *rest = pages
    first.save(stack, save_all=True, append_images=rest, compression="tiff_adobe_deflate")
    socket = {"slug": INPUT_SOCKET, "relative_path": f"images/{INPUT_SOCKET}"}
    write_text(folder / "inputs.json", json.dumps([{"socket": socket, "image": {"name": stack.name}}]))


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def _call(command: list[str], fault: str, **environment: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "nothing said").splitlines()[-1]
        raise DataError(f"{fault}: {Path(command[0]).name} ended with code {done.returncode}: {last}")


def _grid_settings(work: Work) -> Any:
    return _dump(work.plan.grid_recipes())


STAGES: dict[str, Stage] = {
    "fetch": Stage(
        (),
        lambda w: [w.plan.model_dump(mode="json")["fetch"], _dump(w.plan.recipes())],
        _fetch,
        lambda w: [w.root / place for name in w.plan.fetch for place in DATASETS[name].places],
    ),
    "table": Stage(
        ("fetch",),
        lambda w: [w.plan.data.read_text("utf-8"), w.plan.ablation.data.read_text("utf-8")],
        _table,
        lambda w: [w.out / f / n for f in ("data", "data-ablation") for n in (TABLE, PATCHES)],
    ),
    "lodo": Stage(
        ("fetch", "table"),
        lambda w: _dump(w.plan.recipes()),
        _lodo,
        lambda w: [w.lodo_folder(recipe) / OUT_OF_FOLD for recipe in w.plan.recipes()],
    ),
    "grid": Stage(
        ("lodo",),
        _grid_settings,
        _grid,
        lambda w: [w.lodo_folder(recipe) / OUT_OF_FOLD for recipe in w.plan.grid_recipes()],
    ),
    "horizon": Stage(("grid",), lambda w: None, _horizon, lambda w: []),
    "ablation": Stage(
        ("fetch", "table"),
        lambda w: [_dump([w.plan.ablation_recipe()]), w.plan.ablation.cells, w.plan.ablation.folds],
        _ablation,
        lambda w: [w.out / "ablation" / f"{ABLATION}.csv"],
    ),
    "final": Stage(("horizon",), lambda w: None, _final, lambda w: [_final_run(w) / BEST]),
    "calibration": Stage(
        ("grid",), lambda w: None, _calibration, lambda w: [w.out / "calibration" / f"{CALIBRATION}.json"]
    ),
    "bundle": Stage(
        ("final", "calibration"), lambda w: None, _bundle, lambda w: [w.out / "bundle" / FILE_NAME]
    ),
    "evaluation": Stage(
        ("bundle",), lambda w: None, _evaluation, lambda w: [w.out / "evaluation" / "metrics.json"]
    ),
    "report": Stage(("ablation", "evaluation"), lambda w: w.plan.name, _report, lambda w: [w.out / PAGE]),
    "image": Stage(("bundle",), lambda w: None, _image, lambda w: [w.out / "image" / "output" / OUTPUT_NAME]),
}


# ---- running them


def chosen_stages(only: str | None = None, first: str | None = None, last: str | None = None) -> list[str]:
    """The stages from `first` to `last`, or `only` one, in their order.

    Raises
    ------
    DataError : there is no such stage, or `last` comes before `first`.
    """
    names = list(STAGES)
    for name in (only, first, last):
        if name is not None and name not in names:
            raise DataError(f"stage {name!r} is unknown, expected one of {', '.join(names)}")
    if only is not None:
        return [only]
    chosen = names[names.index(first) if first else 0 : names.index(last) + 1 if last else None]
    if not chosen:
        raise DataError(f"stage {last} comes before {first}: nothing is left to do")
    return chosen


def take_results(work: Work, names: list[str]) -> None:
    """Read the results of all stages that are done.

    Raises
    ------
    DataError : a stage that `names` need is neither among them nor done.
    """
    needed = _needed(names) - set(names)
    for name in STAGES:
        if _is_done(work, name):
            work.results[name] = read_stage_record(work.out, name)["result"]
            continue
        work.results.pop(name, None)
        if name in needed:
            raise DataError(f"stage {name} is not done with these inputs: run it first")


def run_stages(work: Work, names: list[str]) -> None:
    """Run stages in their order; one that is done with the same inputs is read, not run again.

    Raises
    ------
    DataError : a stage that these need has not been run.
    AmfError : a stage fails; what it completed stays, and the next call continues.
    """
    take_results(work, names)
    for name in [name for name in STAGES if name in names]:
        if _is_done(work, name):
            print(f"== {name}: done before", flush=True)
            continue
        print(f"== {name}", flush=True)
        stage, started, inputs = STAGES[name], time.perf_counter(), _inputs(work, name)
        result = stage.run(work)
        work.results[name] = result
        if _is_main():
            record = {
                "stage": name,
                "inputs": inputs,
                "result": result,
                "seconds": round(time.perf_counter() - started, 1),
                "outputs": {os.path.relpath(path, work.out): _weight(path) for path in stage.outputs(work)},
                "made_with": versions(),
            }
            write_text(work.out / RECORDS / f"{name}.json", json.dumps(record, indent=1) + "\n")
        _wait()


def read_stage_record(out: Path, name: str) -> dict[str, Any]:
    """The record of a stage; an empty one where it was not run to its end."""
    path = out / RECORDS / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _is_done(work: Work, name: str) -> bool:
    record = read_stage_record(work.out, name)
    if not record or any(need not in work.results for need in STAGES[name].needs):
        return False
    recorded = [(work.out / path, size) for path, size in record["outputs"].items()]
    there = all(path.exists() and _weight(path) == size for path, size in recorded)
    return record["inputs"] == _inputs(work, name) and there


def _weight(path: Path) -> int | None:
    """Size of a file in bytes; None of a folder, which only has to be there."""
    return path.stat().st_size if path.is_file() else None


def _inputs(work: Work, name: str) -> dict[str, str]:
    stage = STAGES[name]
    return {
        "settings": _hash(stage.settings(work)),
        **{need: _hash(work.results[need]) for need in stage.needs},
    }


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _needed(names: list[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        for need in STAGES[waiting.pop()].needs:
            if need not in found:
                found.add(need)
                waiting.append(need)
    return found


def _is_main() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def _wait() -> None:
    """Under a launcher: until every process is here."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


# ---- the preflight


def preflight(work: Work, names: list[str], measure: bool) -> list[Check]:
    """What the stages that are still to be run need; see preflight.py.

    Parameters
    ----------
    measure : also run ten steps of each network whose weights are at hand, for the hours.
    """
    plan = work.plan
    take_results(work, names)
    ahead = [name for name in names if name not in work.results]
    checks, to_come = [], 0
    if "fetch" in ahead:
        for name in plan.fetch:
            check, size = check_download(name, work.root)
            checks.append(check)
            to_come += 2 * size  # an archive, and what is unpacked from it
    trains = {"lodo", "grid", "final", "ablation"} & set(ahead)
    recipes = {recipe.name: recipe for recipe in [*plan.recipes(), *plan.grid_recipes()]}
    if "ablation" in ahead:
        recipes["ablation"] = plan.ablation_recipe()
    figures, domains = paper.DATA["figures"], paper.DATA["domains"]
    if "table" in work.results:
        figures, domains = work.results["table"]["counts"]["figures"], len(work.figures.domains)
    if trains:
        for recipe in recipes.values():
            checks += check_recipe(recipe, domains)
        to_come += sum(run_bytes(recipe, domains) * domains for recipe in recipes.values())
    if "table" in ahead:
        to_come += 2 * figures * PATCH_BYTES
    checks.append(check_disk(work.out, to_come))
    if trains and measure and all(check.ok for check in checks) and "table" in work.results:
        checks += check_hours(_runs(work, ahead))
    elif trains and measure:
        why = "a fault above" if not all(check.ok for check in checks) else "the stages fetch and table"
        checks.append(Check("hours", "all stages", f"measured after {why}", "at most", True))
    return checks


def _runs(work: Work, ahead: list[str]) -> dict[str, tuple[Recipe, list[tuple[int, int]]]]:
    """Stage and recipe → the figures that each of its runs trains on and scores."""
    plan = work.plan
    runs: dict[str, tuple[Recipe, list[tuple[int, int]]]] = {}
    folds = [(len(s.train), len(s.held_out)) for s in leave_one_domain_out(work.figures.table)]
    lodo = plan.recipes() if "lodo" in ahead else []
    grid = (
        [recipe for recipe in plan.grid_recipes() if recipe not in plan.recipes()] if "grid" in ahead else []
    )
    for stage, recipes in (("LODO", lodo), ("grid", grid)):
        runs |= {f"{stage} of {recipe.name}": (recipe, folds) for recipe in recipes}
    if "ablation" in ahead:
        recipe = plan.ablation_recipe()
        splits = ablation_runs({BASELINE: recipe}, work.ablation_figures, work.out, plan.ablation.folds)[
            0
        ].splits
        cells = len(plan.ablation.cells)
        runs["ablation"] = (recipe, [(len(s.train), len(s.held_out)) for s in splits] * cells)
    if "final" in ahead:
        runs["final run"] = (plan.recipes()[0], [(len(work.figures.table), 0)])
    return runs
