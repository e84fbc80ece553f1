# Many slides, each in shares that run side by side, on one machine or on a cluster:
#
#     snakemake --snakefile workflow/slides.smk --config table=slides.csv shares=4 --cores all --resources gpu=1
#     snakemake --snakefile workflow/slides.smk --config table=slides.csv shares=4 --profile workflow/profiles/slurm
#
# The table has the columns slide, figures and output, relative to its folder, as `amf slide --table` reads them.

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


localrules: all, join


rule all:
    input: list(SLIDES)


# A share keeps what it has scored in its part, which a job that was broken off continues: the part is no output of
# the rule, as Snakemake would delete it.
rule share:
    input: slide=place("slide"), figures=place("figures")
    output: touch("{output}.{number}-of-{count}.done")
    wildcard_constraints: output="|".join(map(re.escape, SLIDES))
    threads: int(config.get("threads", 1))
    resources: mem_mb=int(config.get("mem_mb", 8000)), gpu=int(config.get("gpus", 0))
    retries: 2
    shell:
        "{AMF} slide {input.slide:q} {input.figures:q} {MODEL}"
        " --output {wildcards.output:q} --shard {wildcards.number}/{wildcards.count}"


rule join:
    input: expand("{{output}}.{number}-of-{count}.done", number=range(1, SHARES + 1), count=SHARES)
    output: "{output}"
    wildcard_constraints: output="|".join(map(re.escape, SLIDES))
    params: parts=lambda wildcards, input: [path.removesuffix("done") + "part" for path in input]
    shell: "{AMF} join {params.parts:q} --output {output:q}"
