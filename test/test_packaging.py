"""What the image would hold and how it starts, read off the files that make it; `test.sh` runs it."""

import ast
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
FINAL_STAGE = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]


def in_the_image():
    """Modules of amf/ that .dockerignore lets through, by its lines for single files and for folders."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = [ROOT / line[1:] for line in lines[lines.index("*") :] if line.startswith("!amf")]
    return {file for path in let_in for file in ([path] if path.is_file() else path.rglob("*.py"))}


def imported(file):
    """Files of amf/ that a Python file imports, whether at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    paths = [ROOT / name.replace(".", "/") for name in names if name.split(".")[0] == "amf"]
    found = {path.with_suffix(".py") for path in paths} | {path / "__init__.py" for path in paths}
    return {path for path in found if path.is_file()}


def test_nothing_in_the_image_imports_what_the_image_lacks():
    inside = in_the_image()
    missing = {file: found for file in inside | {ROOT / "inference.py"} if (found := imported(file) - inside)}

    assert len(inside) > 10
    assert missing == {}


ROOMS = ["errors", "files", "model", "inference", "augmentation", "data", "bulk", "evaluation", "training"]
ROOMS += ["experiments", "commands", "cli", "__main__"]


def room_of(file):
    return file.relative_to(ROOT / "amf").parts[0].removesuffix(".py")


def test_a_room_imports_from_those_above_it_alone():
    modules = [file for file in (ROOT / "amf").rglob("*.py") if file != ROOT / "amf" / "__init__.py"]
    upward = [
        f"{file.relative_to(ROOT)} imports {other.relative_to(ROOT)}"
        for file in modules
        for other in imported(file) - {ROOT / "amf" / "__init__.py"}
        if ROOMS.index(room_of(other)) > ROOMS.index(room_of(file))
    ]

    assert upward == []


def test_no_room_holds_over_a_quarter_of_the_lines():
    lines = Counter()
    for file in (ROOT / "amf").rglob("*.py"):
        lines[room_of(file)] += len(file.read_text().splitlines())

    assert max(lines.values()) <= lines.total() / 4, lines


def test_the_dockerfile_copies_nothing_else_and_adds_nothing_by_address():
    copied = re.findall(r"^COPY (?!--from=files)(.+) \S+$", DOCKERFILE, re.MULTILINE)

    assert sorted(" ".join(copied).split()) == sorted(
        ["requirements.txt", "inference.py", "amf/", "model/", "requirements.txt", "sbom.py"]
    )
    assert not re.search(r"^ADD |https?://|--index-url|--find-links", DOCKERFILE, re.MULTILINE)


def test_the_base_image_is_pinned_to_the_torch_that_is_installed():
    tag = re.search(r"^ARG BASE_IMAGE=pytorch/pytorch:(\S+)$", DOCKERFILE, re.MULTILINE)[1]
    torch = re.search(r"^torch==(\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)[1]

    assert re.fullmatch(rf"{re.escape(torch)}-cuda12\.\d+-cudnn\d+-runtime", tag)


def test_the_image_runs_a_job_as_a_user_without_rights():
    assert re.findall(r"^USER (.+)$", FINAL_STAGE, re.MULTILINE) == ["10001:10001"]
    assert "useradd --uid 10001 " in FINAL_STAGE
    assert re.findall(r"^ENTRYPOINT (.+)$", FINAL_STAGE, re.MULTILINE) == [
        '["python3", "/opt/app/inference.py"]'
    ]
    assert not re.search(r"^(CMD|VOLUME|EXPOSE)", FINAL_STAGE, re.MULTILINE)


@pytest.mark.parametrize("name", ["version", "revision"])
def test_the_image_says_where_it_comes_from(name):
    assert f'org.opencontainers.image.{name}="${{{name.upper()}}}"' in FINAL_STAGE
    assert f'--build-arg "{name.upper()}=${name}"' in (ROOT / "build.sh").read_text()


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-train.txt"])
def test_every_requirement_is_pinned(name):
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    lines = [line for line in lines if line and line != "-r requirements.txt"]

    assert lines
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line


def test_jobs_run_under_every_restriction_of_the_platform():
    script = (ROOT / "test.sh").read_text()
    for restriction in (
        "--network none",
        "--read-only",
        "--tmpfs /tmp",
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        "--memory 16g",
        ":/input:ro",
    ):
        assert restriction in script


# ---- the scripts, with a docker that does what a test says ----------------------------------------------


@pytest.fixture
def script(tmp_path):
    """Run a copy of a script beside a copy of what it reads, with `docker` replaced by a shell script."""
    for name in ("build.sh", "export.sh", "test.sh", "amf/__init__.py", "test/check_output.py"):
        (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "checkout" / name)

    def run(name, *arguments, docker="exit 0"):
        fake = tmp_path / "bin" / "docker"
        fake.parent.mkdir(exist_ok=True)
        fake.write_text(f'#!/bin/bash\necho "$@" >>{tmp_path}/calls\n{docker}\n')
        fake.chmod(0o755)
        environment = {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}"}
        environment.pop("IMAGE", None)
        return subprocess.run(
            [tmp_path / "checkout" / name, *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def write_checkout(folder, name, text=""):
    file = folder / "checkout" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_build_refuses_a_checkout_without_weights(script, tmp_path):
    done = script("build.sh")

    assert done.returncode == 1
    assert done.stderr == "model/bundle.json is missing: the image would have no weights\n"
    assert not (tmp_path / "calls").exists()


def test_build_passes_the_base_image_version_and_options_on(script, tmp_path, monkeypatch):
    write_checkout(tmp_path, "model/bundle.json", "{}")
    monkeypatch.setenv("BASE_IMAGE", "stand-in:1")
    done = script("build.sh", "--network", "host")

    assert done.returncode == 0, done.stderr
    [call] = (tmp_path / "calls").read_text().splitlines()
    assert "--build-arg BASE_IMAGE=stand-in:1 --network host ." in call
    assert re.search(r"--build-arg VERSION=\d+\.\d+\.\d+ ", call)


def save(*images):
    """A `docker` whose `save` writes an archive of these images."""
    tags = ", ".join(f'{{"RepoTags": ["{image}"]}}' for image in images)
    return f"""
echo '[{tags}]' >"${{0%docker}}manifest.json"
tar --create --directory "${{0%docker}}" manifest.json
"""


def test_export_saves_one_image(script, tmp_path):
    done = script("export.sh", tmp_path / "a.tar.gz", docker=save("amf:latest"))

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.tar.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert "amf:latest alone" in done.stdout


@pytest.mark.parametrize(
    "docker",
    [save("amf:latest", "amf:old"), save("other:latest"), save("amf:latest") + "exit 1", "exit 1"],
    ids=["two images", "another image", "save failed late", "save failed"],
)
def test_export_leaves_no_file_when_the_archive_is_not_that_one_image(script, tmp_path, docker):
    done = script("export.sh", tmp_path / "out" / "a.tar.gz", docker=docker)

    assert done.returncode != 0
    assert list((tmp_path / "out").iterdir()) == []


def test_export_refuses_an_archive_over_the_platforms_limit(script, tmp_path):
    export = tmp_path / "checkout" / "export.sh"
    export.write_text(export.read_text().replace("10 * 1024 ** 3", "10"))
    done = script("export.sh", tmp_path / "out" / "a.tar.gz", docker=save("amf:latest"))

    assert done.returncode == 1
    assert "more than the 10 the platform accepts" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


ANSWER = '[{"class": "normal", "confidence": 0.25}]'


BILL = '{"components": [{"purl": "pkg:pypi/torch@2.0+cpu"}, {"purl": "pkg:deb/bash@5?arch=all"}]}'


def engine(
    answer=ANSWER,
    code=0,
    stderr="",
    user="10001:10001",
    code_for_no_job=2,
    compilers="",
    leftovers="",
    variable="PATH=/bin",
    bill=BILL,
):
    """A `docker` whose containers behave as told; the folder without inputs.json is told by its name."""
    return f"""
case "$1" in
    info) echo '{{}}' ;;
    image) echo '{user}' ;;
    run)
        case "$*" in
            *'command -v'*) printf '%s' '{compilers}' ;;
            *'ls -d'*) printf '%s' '{leftovers}' ;;
            *sbom.json*) printf '%s' '{bill}' ;;
            *env) echo '{variable}' ;;
        esac ;;
    create)
        for argument; do
            case "$argument" in
                *:/output) echo "${{argument%:/output}}" >$0.output ;;
                */empty:/input:ro) touch $0.no-job ;;
            esac
        done
        echo container ;;
    start)
        if [[ -e $0.no-job ]]; then echo 'refused' >&2; exit {code_for_no_job}; fi
        printf '%s' '{stderr}' >&2
        printf '%s' '{answer}' >"$(cat $0.output)/multiple-mitotic-figure-classification.json"
        exit {code} ;;
esac
"""


@pytest.fixture
def one_job(tmp_path):
    write_checkout(tmp_path, "test/input/tiff/inputs.json")
    write_checkout(tmp_path, "test/expected.json", ANSWER)
    write_checkout(tmp_path, "requirements.txt", "torch==2.0\n")


@pytest.mark.usefixtures("one_job")
def test_the_image_passes_when_its_answers_are_as_expected(script):
    done = script("test.sh", docker=engine())

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("passed: amf:latest\n")


@pytest.mark.usefixtures("one_job")
@pytest.mark.parametrize(
    ("docker", "reason"),
    [
        (engine(answer=ANSWER.replace("0.25", "0.75")), "wrong answer"),
        (engine(answer=ANSWER.replace("0.25", "0")), "wrong answer"),
        (engine(answer="[]"), "wrong answer"),
        (engine(code=3, stderr="no bundle"), "ended with code 3: no bundle"),
        (engine(stderr="a warning"), "wrote to stderr: a warning"),
        (engine(user=""), "runs as root"),
        (engine(user="root"), "runs as root"),
        (engine(user="0:0"), "runs as root"),
        (engine(code_for_no_job=1), "no job ended with code 1, expected 2"),
        (engine(compilers="/usr/bin/gcc"), "holds compilers: /usr/bin/gcc"),
        (engine(leftovers="/opt/app/.git"), "holds caches or secrets: /opt/app/.git"),
        (engine(variable="HUB_TOKEN=x"), "has secrets in its environment: HUB_TOKEN=x"),
        (engine(bill='{"components": []}'), "the bill of materials lacks a requirement"),
        ("exit 1", ""),
    ],
)
def test_the_image_fails_on_any_mismatch(script, docker, reason):
    done = script("test.sh", docker=docker)

    assert done.returncode == 1
    assert reason in done.stderr
    assert "passed" not in done.stdout
