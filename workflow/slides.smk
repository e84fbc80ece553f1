# Many slides, each in shares that run side by side, on one machine or on a cluster:
#
#     snakemake --snakefile workflow/slides.smk --config table=slides.csv shares=4 --cores all --resources gpu=1
#     snakemake --snakefile workflow/slides.smk --config table=slides.csv shares=4 --profile workflow/profiles/slurm
#
# The table has the columns slide, figures and output, relative to its folder, and may have mpp and area, as
# `amf slide --table` reads them.

import csv
import os
import re
import shlex
import sys
from pathlib import Path

HOME = Path(workflow.basedir).parent
os.environ["PYTHONPATH"] = f"{HOME}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
AMF = f"{shlex.quote(sys.executable)} -m amf"

TABLE = Path(config["table"]).absolute()
with TABLE.open(newline="", encoding="utf-8") as file:
    SLIDES = {str(TABLE.parent / row["output"]): row for row in csv.DictReader(file)}
SHARES = int(config.get("shares", 1))
MODEL = f"--model {shlex.quote(config['model'])}" if "model" in config else ""


def place(column):
    """A slide's file in a column of the table."""
    return lambda wildcards: str(TABLE.parent / SLIDES[wildcards.output][column])


def options(wildcards):
    """The slide's own --mpp and --area."""
    row = SLIDES[wildcards.output]
    area = row.get("area") or ""
    found = [f"--mpp {shlex.quote(row['mpp'])}"] if row.get("mpp") else []
    if area:
        found.append(f"--area {shlex.quote(area if area == 'tissue' else str(TABLE.parent / area))}")
    return " ".join(found)


localrules: all, join


rule all:
    input: list(SLIDES)


# A share keeps what it has scored in its part, which a job that was broken off continues: the part is no output of
# the rule, as Snakemake would delete it.
rule share:
    input: slide=place("slide"), figures=place("figures")
    output: touch("{output}.{number}-of-{total}.done")
    wildcard_constraints: output="|".join(map(re.escape, SLIDES))
    threads: int(config.get("threads", 1))
    resources: mem_mb=int(config.get("mem_mb", 8000)), gpu=int(config.get("gpus", 0))
    retries: 2
    params: options=options
    shell:
        "{AMF} slide {input.slide:q} {input.figures:q} {MODEL} {params.options}"
        " --output {wildcards.output:q} --shard {wildcards.number}/{wildcards.total}"


rule join:
    input: expand("{{output}}.{number}-of-{total}.done", number=range(1, SHARES + 1), total=SHARES)
    output: "{output}"
    wildcard_constraints: output="|".join(map(re.escape, SLIDES))
    params: parts=lambda wildcards, input: [path.removesuffix("done") + "part" for path in input]
    # Code 2 with an output: some figures are refused, and listed beside it.
    shell: "{AMF} join {params.parts:q} --output {output:q} || [[ $? -eq 2 && -s {output:q} ]]"
