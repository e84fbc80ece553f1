"""What the image would hold and how it starts, read off the files that make it; `test.sh` runs it."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from graphlib import TopologicalSorter

import pytest

from test.support.image import in_the_image
from test.support.paths import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
STAGES = {stage: text for text in DOCKERFILE.split("\nFROM ") for stage in re.findall(r" AS (\w+)\n", text)}


def parsed(file):
    return ast.parse(file.read_text())


def imported(tree):
    """Files of amf/ that the code of a Python file imports, whether at its top or inside a function."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    paths = [ROOT / name.replace(".", "/") for name in names if name.split(".")[0] == "amf"]
    found = {path.with_suffix(".py") for path in paths} | {path / "__init__.py" for path in paths}
    return {path for path in found if path.is_file()}


def test_nothing_in_the_image_imports_what_the_image_lacks():
    inside = in_the_image()
    files = inside | {ROOT / "inference.py"}
    missing = {file: found for file in files if (found := imported(parsed(file)) - inside)}

    assert len(inside) > 10
    assert missing == {}


ROOMS = ["errors", "files", "launcher", "model", "cpu", "inference", "augmentation", "data", "bulk"]
ROOMS += ["evaluation", "training", "experiments", "commands", "cli", "__main__"]


def room_of(file):
    return file.relative_to(ROOT / "amf").parts[0].removesuffix(".py")


def test_a_room_imports_from_those_above_it_alone():
    modules = [file for file in (ROOT / "amf").rglob("*.py") if file != ROOT / "amf" / "__init__.py"]
    upward = [
        f"{file.relative_to(ROOT)} imports {other.relative_to(ROOT)}"
        for file in modules
        for other in imported(parsed(file)) - {ROOT / "amf" / "__init__.py"}
        if ROOMS.index(room_of(other)) > ROOMS.index(room_of(file))
    ]

    assert upward == []


def test_any_module_can_be_the_first_that_is_imported():
    graph = {}
    for file in (ROOT / "amf").rglob("*.py"):
        tree = parsed(file)
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        graph[file] = imported(tree) - {file}

    assert len(graph) > 100
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)  # a circle would raise


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
    tag, digest = re.search(
        r"^ARG BASE_IMAGE=pytorch/pytorch:(\S+)@sha256:([0-9a-f]+)$", DOCKERFILE, re.MULTILINE
    ).groups()
    torch = re.search(r"^torch==(\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)[1]

    assert re.fullmatch(rf"{re.escape(torch)}-cuda12\.\d+-cudnn\d+-runtime", tag)
    assert len(digest) == 64


def test_both_images_run_as_a_user_without_rights_and_the_default_is_exec():
    common, invoke, exec_ = STAGES["common"], STAGES["invoke"], STAGES["exec"]

    assert re.findall(r"^USER (.+)$", common, re.MULTILINE) == ["10001:10001"]
    assert "useradd --uid 10001 " in common
    assert list(STAGES) == ["files", "common", "invoke", "exec"]  # docker builds the last one unless told
    entry = '["python3", "/opt/app/inference.py"'
    assert re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE) == [f'{entry}, "--serve"]', f"{entry}]"]
    assert 'LABEL org.grand-challenge.api-method="invoke"' in invoke
    assert invoke.startswith("common ")
    assert exec_.startswith("common ")
    assert "api-method" not in common + exec_
    assert not re.search(r"^(CMD|VOLUME|EXPOSE)", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("name", ["version", "revision"])
def test_the_image_says_where_it_comes_from(name):
    assert f'org.opencontainers.image.{name}="${{{name.upper()}}}"' in STAGES["common"]
    assert f'--build-arg "{name.upper()}=${name}"' in (ROOT / "build.sh").read_text()


@pytest.mark.parametrize("name", sorted(path.name for path in ROOT.glob("requirements*.txt")))
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
    copied = (
        "build.sh",
        "export.sh",
        "test.sh",
        "amf/__init__.py",
        "test/container/check_output.py",
        ".dockerignore",
    )
    for name in copied:
        (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "checkout" / name)

    def run(name, *arguments, docker="exit 0"):
        fake = tmp_path / "bin" / "docker"
        fake.parent.mkdir(exist_ok=True)
        fake.write_text(f'#!/bin/bash\necho "$@" >>{tmp_path}/calls\n{docker}\n')
        fake.chmod(0o755)
        environment = {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}"}
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
    expected = f"{tmp_path}/checkout/model/bundle.json is missing: the image would have no weights\n"
    assert done.stderr == expected
    assert not (tmp_path / "calls").exists()


BUILD = 'tar --list --file - >"$0.context"'


@pytest.fixture
def checkout(tmp_path):
    """All that a build takes, empty, and some things that it must not."""
    names = ["Dockerfile", "requirements.txt", "sbom.py", "inference.py", "amf/errors.py", "amf/files.py"]
    names += ["amf/model/bundle.py", "amf/cpu/linear.py", "amf/inference/job.py"]
    names += ["model/bundle.json", "model/member0.safetensors"]
    unwanted = [
        "amf/model/__pycache__/x.pyc",
        "amf/training/loop.py",
        "model/member1.safetensors.partial",
        "x",
    ]
    for name in names + unwanted:
        write_checkout(tmp_path, name)
    return {name for name in names if not name.startswith("model/")} | {"amf/__init__.py", ".dockerignore"}


def files_of_context(tmp_path):
    lines = (tmp_path / "bin" / "docker.context").read_text().splitlines()
    return {line for line in lines if not line.endswith("/")}


def test_build_passes_the_base_image_version_and_options_on(script, checkout, tmp_path, monkeypatch):
    monkeypatch.setenv("BASE_IMAGE", "stand-in:1")
    done = script("build.sh", "--network", "host", docker=BUILD)

    assert done.returncode == 0, done.stderr
    [call] = (tmp_path / "calls").read_text().splitlines()
    assert "--target exec --tag amf:latest" in call
    assert call.endswith("--build-arg BASE_IMAGE=stand-in:1 --network host -")
    assert re.search(r"--build-arg VERSION=\d+\.\d+\.\d+ ", call)
    assert files_of_context(tmp_path) == checkout | {"model/bundle.json", "model/member0.safetensors"}


def test_build_takes_the_api_and_a_bundle_from_elsewhere(script, checkout, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    for name in ("bundle.json", "member0.safetensors", "member1.safetensors"):
        (tmp_path / "other" / name).touch()
    monkeypatch.setenv("API", "invoke")
    monkeypatch.setenv("MODEL", "other")
    done = script("build.sh", docker=BUILD)

    assert done.returncode == 0, done.stderr
    assert "--target invoke " in (tmp_path / "calls").read_text()
    bundle = {"model/bundle.json", "model/member0.safetensors", "model/member1.safetensors"}
    assert files_of_context(tmp_path) == checkout | bundle


@pytest.mark.parametrize(("name", "value"), [("API", "serve"), ("MODEL", "nowhere")])
def test_build_refuses_another_api_and_a_folder_that_is_no_bundle(
    script, checkout, tmp_path, monkeypatch, name, value
):
    monkeypatch.setenv(name, value)
    done = script("build.sh", docker=BUILD)

    assert done.returncode == 1
    assert value in done.stderr
    assert not (tmp_path / "calls").exists()


def test_build_fails_where_docker_does(script, checkout):
    done = script("build.sh", docker="cat >/dev/null; exit 1")

    assert done.returncode == 1
    assert "built" not in done.stdout


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


def test_export_completes_a_name_without_a_tag_before_it_saves(script, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGE", "registry:5000/team/amf")
    done = script("export.sh", tmp_path / "a.tar.gz", docker=save("registry:5000/team/amf:latest"))

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls").read_text() == "save registry:5000/team/amf:latest\n"


def test_export_packs_a_bundle_as_the_platform_unpacks_it(script, tmp_path, monkeypatch):
    (tmp_path / "bundle").mkdir()
    for name in ("bundle.json", "member0.safetensors", "member0.partial"):
        (tmp_path / "bundle" / name).write_text(name)
        (tmp_path / "bundle" / name).chmod(0o600)
    monkeypatch.setenv("MODEL", "bundle")
    done = script("export.sh", tmp_path / "out" / "a.tar.gz", docker=save("amf:latest"))

    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "out" / "model.tar.gz") as archive:
        assert archive.getnames() == [".", "./bundle.json", "./member0.safetensors"]
        assert all(member.mode & 0o444 == 0o444 and member.uid == 0 for member in archive)
        assert archive.extractfile("./bundle.json").read() == b"bundle.json"


def test_export_refuses_a_folder_that_is_no_bundle_before_it_saves(script, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL", "nowhere")
    done = script("export.sh", tmp_path / "a.tar.gz", docker=save("amf:latest"))

    assert done.returncode == 1
    assert done.stderr == "nowhere/bundle.json is missing: nowhere is no bundle\n"
    assert not (tmp_path / "calls").exists()


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


ANSWER_NAME = "multiple-mitotic-figure-classification.json"
NO_JOB = "/input/inputs.json cannot be read: No such file or directory"
BUNDLE = '{"name": "ours"}'


def engine(
    answer=ANSWER,
    code=0,
    stderr="",
    user="10001:10001",
    code_for_no_job=2,
    code_for_broken_bundle=3,
    other_bundle_is_used=True,
    compilers="",
    leftovers="",
    variable="PATH=/bin",
    bill=BILL,
    api="",
    device="cpu",
    health="200 ready",
    invoked="201 done",
    refused="422 ",
    server_code=0,
    leaves="",
    bundle=BUNDLE,
):
    """A `docker` whose containers behave as told: an exec image's by default, an invoke image's with `api`.

    Which case it is stands in the mounted folders, as for a real engine: an empty input is no job; a bundle
    that is mounted is broken where its bundle.json is '{{}}', as test.sh writes it.
    """
    return f"""
state=$(dirname "$0")
work=$(cat "$state/mounted" 2>/dev/null || true)
name=compact
if [[ -d $work/model && {int(other_bundle_is_used)} -eq 1 ]]; then name=uploaded; fi
broken() {{ [[ -d $work/model && $(cat "$work/model/bundle.json" 2>/dev/null) == '{{}}' ]]; }}
score() {{
    if [[ $name == uploaded ]]; then
        printf '%s' '{ANSWER}' >"$work/output/{ANSWER_NAME}"
    else
        printf '%s' '{answer}' >"$work/output/{ANSWER_NAME}"
    fi
    echo "stack.tif: 1 figures; bundle $name on {device}" >>"$state/stdout"
    printf '%s' '{stderr}' >>"$state/stderr"
}}
refuse() {{ echo '{NO_JOB}' >>"$state/stderr"; {leaves or ":"}; }}
case "$1" in
    info) echo '{{}}' ;;
    image) if [[ "$*" == *api-method* ]]; then echo '{api}'; else echo '{user}'; fi ;;
    run)
        case "$*" in
            *'command -v'*) printf '%s' '{compilers}' ;;
            *model/bundle.json*) printf '%s' '{bundle}' ;;
            *--directory*) tar --create --files-from /dev/null ;;
            *'ls -d'*) printf '%s' '{leftovers}' ;;
            *sbom.json*) printf '%s' '{bill}' ;;
            *env) echo '{variable}' ;;
        esac ;;
    create)
        for argument; do
            case "$argument" in *:/output) dirname "${{argument%:/output}}" >"$state/mounted" ;; esac
        done
        rm -f "$state/stdout" "$state/stderr"
        touch "$state/stdout" "$state/stderr"
        echo container ;;
    start)
        if [[ $2 == --attach ]]; then
            code={code}
            if broken; then echo 'bundle.json' >>"$state/stderr"; code={code_for_broken_bundle};
            elif [[ -e $work/input/inputs.json ]]; then score
            else refuse; code={code_for_no_job}; fi
            cat "$state/stdout"; cat "$state/stderr" >&2
            exit $code
        fi ;;
    exec)
        case "$*" in
            *'GET /health') echo '{health}' ;;
            *'POST /invoke')
                if [[ -e $work/input/inputs.json ]]; then score; echo '{invoked}';
                else refuse; echo '{refused}{NO_JOB}'; fi ;;
        esac ;;
    logs) cat "$state/stdout"; cat "$state/stderr" >&2 ;;
    inspect) echo {server_code} ;;
esac
"""


@pytest.fixture
def one_job(tmp_path):
    write_checkout(tmp_path, "test/input/tiff/inputs.json")
    write_checkout(tmp_path, "test/expected.json", ANSWER)
    write_checkout(tmp_path, "model/bundle.json", BUNDLE)
    write_checkout(tmp_path, "requirements.txt", "torch==2.0\n")


@pytest.mark.usefixtures("one_job")
@pytest.mark.parametrize("api", ["", "invoke"])
def test_the_image_passes_when_its_answers_are_as_expected(script, api):
    done = script("test.sh", docker=engine(api=api))

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"passed: amf:latest ({api or 'exec'})\n")


@pytest.mark.usefixtures("one_job")
@pytest.mark.parametrize("api", ["", "invoke"])
def test_with_a_gpu_the_answers_must_come_from_it(script, api):
    assert script("test.sh", "--gpus", "all", docker=engine(api=api, device="cuda:0")).returncode == 0
    done = script("test.sh", "--gpus", "all", docker=engine(api=api))

    assert done.returncode == 1
    assert "the log lacks ' on cuda': stack.tif: 1 figures; bundle compact on cpu" in done.stderr


@pytest.mark.usefixtures("one_job")
@pytest.mark.parametrize(("answer", "code"), [(ANSWER, 0), (ANSWER.replace("0.25", "0.75"), 1)])
def test_an_image_with_another_bundle_is_held_against_inference_py(script, tmp_path, answer, code):
    reference = f"""
import pathlib, sys
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert pathlib.Path(arguments["--model"]).name == "built-in"
(pathlib.Path(arguments["--output"]) / "{ANSWER_NAME}").write_text('{answer}')
"""
    write_checkout(tmp_path, "inference.py", reference)
    write_checkout(tmp_path, "torch.py")
    write_checkout(tmp_path, "test/expected.json", ANSWER.replace("0.25", "0.5"))
    done = script("test.sh", docker=engine(bundle='{"name": "hers"}'))

    assert done.returncode == code, done.stderr
    assert (
        "holds another bundle than model/: its answers are held against those of inference.py" in done.stdout
    )


@pytest.mark.usefixtures("one_job")
@pytest.mark.parametrize("api", ["", "invoke"])
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"answer": ANSWER.replace("0.25", "0.75")}, "wrong answer"),
        ({"leaves": 'touch "$work/output/x"'}, "no job left x in /output"),
        ({"code_for_broken_bundle": 0}, "a broken bundle"),
        ({"other_bundle_is_used": False}, "the log lacks 'bundle uploaded on '"),
    ],
)
def test_either_image_fails_on_a_wrong_answer_or_bundle(script, api, options, reason):
    done = script("test.sh", docker=engine(api=api, **options))

    assert done.returncode == 1
    assert reason in done.stderr
    assert "passed" not in done.stdout


@pytest.mark.usefixtures("one_job")
@pytest.mark.parametrize(
    ("docker", "reason"),
    [
        (engine(answer=ANSWER.replace("0.25", "0")), "wrong answer"),
        (engine(answer="[]"), "wrong answer"),
        (engine(user=""), "runs as root"),
        (engine(user="root"), "runs as root"),
        (engine(user="0:0"), "runs as root"),
        (engine(compilers="/usr/bin/gcc"), "holds compilers: /usr/bin/gcc"),
        (engine(leftovers="/opt/app/.git"), "holds caches or secrets: /opt/app/.git"),
        (engine(variable="HUB_TOKEN=x"), "has secrets in its environment: HUB_TOKEN=x"),
        (engine(bill='{"components": []}'), "the bill of materials lacks a requirement"),
        (engine(code=3, stderr="no bundle"), "ended with code 3: no bundle"),
        (engine(stderr="a warning"), "wrote to stderr: a warning"),
        (engine(code_for_no_job=1), "no job ended with code 1, expected 2"),
        (engine(api="invoke", health="302 "), "GET /health gave '302 '"),
        (engine(api="invoke", health="500 broken"), "GET /health gave '500 broken'"),
        (engine(api="invoke", invoked="200 done"), "got '200 done', expected 201"),
        (engine(api="invoke", refused="500 "), f"no job got '500 {NO_JOB}', expected 422"),
        (engine(api="invoke", stderr="a warning\n"), "broken jobs gave 2 lines on stderr"),
        (engine(api="invoke", server_code=137), "ended with code 137 on SIGTERM, expected 0"),
        (engine(api="serve"), "has the API method 'serve', which the platform rejects"),
        ("exit 1", ""),
    ],
)
def test_an_image_fails_on_any_other_mismatch(script, docker, reason):
    done = script("test.sh", docker=docker)

    assert done.returncode == 1
    assert reason in done.stderr
    assert "passed" not in done.stdout


def test_the_bill_of_materials_survives_a_distribution_without_a_name(tmp_path):
    (tmp_path / "broken-1.0.dist-info").mkdir()
    (tmp_path / "broken-1.0.dist-info" / "METADATA").write_text("Version: 1.0\n")
    done = subprocess.run(
        [sys.executable, ROOT / "sbom.py"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert f"left out {tmp_path}" in done.stderr
    assert any(component["name"] == "torch" for component in json.loads(done.stdout)["components"])
