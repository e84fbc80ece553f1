"""The workflow's plan, and its first steps on a miniature; the whole of it is test_miniature.py's."""

import re
import subprocess
import sys
from pathlib import Path

from amf.experiments import paper
from amf.experiments.folds import slug
from amf.training.recipe import read_recipes
from test.support.miniature import environment, published, snakemake, write_configuration
from test.support.paths import ROOT

PAPER = ROOT / "workflow" / "paper.yaml"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def planned(*arguments: str) -> str:
    """What `snakemake --dry-run` says it would do for the paper."""
    command = [sys.executable, "-m", "snakemake", *arguments, "--dry-run", "--printshellcmds"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def jobs(plan: str) -> dict[str, int]:
    """How many jobs of each rule are planned."""
    table = re.search(r"^-+  -+\n(.*?)\n\n", plan, re.DOTALL | re.MULTILINE)
    assert table is not None, plan[-2000:]
    return {rule: int(count) for rule, count in (line.split() for line in table[1].splitlines())}


def test_a_dry_run_of_the_readmes_command_shows_the_papers_plan(tmp_path: Path) -> None:
    (command,) = re.findall(r"^snakemake (.*--cores.*?)(?:  #.*)?$", README, re.MULTILINE)
    plan = planned(*command.replace("DIR", str(tmp_path)).split(), "--cores", "16")
    expected = {"fold": (8 + 1) * 12, "cell": len(paper.TABLE_1) * 5, "lodo": 9, "final": 1, "fetch": 3}
    assert jobs(plan) | expected == jobs(plan)
    assert "image" not in jobs(plan)
    assert plan.index("rule check:") < plan.index("rule fetch:") < plan.index("rule fold:")
    assert "--accept-licence" not in plan
    fold = re.search(r"^rule fold:\n(?:    .*\n)+", plan, re.MULTILINE)
    assert fold is not None
    assert "threads: 8" in fold[0]
    assert {"gpu=1", "mem_mb=32000"} <= set(re.split(r"[ ,\n]+", fold[0]))
    # The combinations have the names that `amf lodo --expand` will give them.
    for recipe in read_recipes(ROOT / "recipes" / "h-optimus-0-grid.yaml"):
        assert f"lodo/{slug(recipe.name)}/11.done" in plan


def test_all_gpus_of_a_machine_serve_one_run_by_accelerate(tmp_path: Path) -> None:
    changes = ["launch=accelerate", "gpus=8", "image=amf-paper:latest", "accept_licence=true"]
    plan = planned(*snakemake(PAPER, tmp_path, "--cores", "16", "--config", *changes)[3:])
    assert re.search(r"accelerate.commands.launch --num_processes 8 -m amf lodo \S+ --data data", plan)
    assert re.search(r"python\S* -m amf lodo --best", plan)
    assert "MODEL=bundle IMAGE=amf-paper:latest" in plan
    assert plan.count("--accept-licence") == 3


def test_a_faulty_configuration_is_named(tmp_path: Path) -> None:
    command = snakemake(PAPER, tmp_path, "--cores", "2", "--dry-run", "--config", "launch=mpirun")
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "launch is mpirun, expected python or accelerate" in done.stdout + done.stderr


def test_the_first_steps_end_where_the_table_has_other_domains(tmp_path: Path) -> None:
    """From the check to the table; its domains stop the run before anything is trained."""
    configuration = write_configuration(tmp_path / "configuration", domains=3)
    command = snakemake(configuration, tmp_path / "out", "--cores", "2", "domains.done")
    with published() as server:
        shell = environment(server, tmp_path / "hub")
        done = subprocess.run(command, env=shell, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    fault = "data/table.csv has 2 domains, the configuration says 3: set domains: 2"
    assert fault in done.stderr + done.stdout
    said = (tmp_path / "out" / "check.txt").read_text()
    weights = r"^ok  recipe virchow2: .*GB of weights to come .*, licence CC-BY-NC-ND-4.0$"
    assert re.search(weights, said, re.M)
    assert re.search(r"^ok  data ami-br: 0.00 GB to come, licence none stated", said, re.M)
