"""What the image would hold and how it starts, read off the files that make it; `test.sh` runs it."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from graphlib import TopologicalSorter

import pytest

from test.support.paths import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def in_the_image():
    """Modules of amf/ that .dockerignore lets through, by its lines for single files and for folders."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = [ROOT / line[1:] for line in lines[lines.index("*") :] if line.startswith("!amf")]
    return {file for path in let_in for file in ([path] if path.is_file() else path.rglob("*.py"))}


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


def test_the_base_image_is_pinned_to_the_torch_that_is_installed():
    pin = r"^ARG BASE_IMAGE=pytorch/pytorch:(\S+)@sha256:[0-9a-f]{64}$"
    tag = re.search(pin, DOCKERFILE, re.MULTILINE)[1]
    torch = re.search(r"^torch==(\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)[1]

    assert re.fullmatch(rf"{re.escape(torch)}-cuda12\.\d+-cudnn\d+-runtime", tag)
    assert not re.search(r"^ADD |https?://|--index-url|--find-links", DOCKERFILE, re.MULTILINE)


def test_both_images_run_as_a_user_without_rights_and_the_default_is_exec():
    stages = {
        stage: text for text in DOCKERFILE.split("\nFROM ") for stage in re.findall(r" AS (\w+)\n", text)
    }

    assert re.findall(r"^USER (.+)$", stages["common"], re.MULTILINE) == ["10001:10001"]
    assert list(stages) == ["files", "common", "invoke", "exec"]  # docker builds the last one unless told
    entry = '["python3", "/opt/app/inference.py"'
    assert re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE) == [f'{entry}, "--serve"]', f"{entry}]"]
    assert 'LABEL org.grand-challenge.api-method="invoke"' in stages["invoke"]
    assert "api-method" not in stages["common"] + stages["exec"]
    assert not re.search(r"^(CMD|VOLUME|EXPOSE)", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(path.name for path in ROOT.glob("requirements*.txt")))
def test_every_requirement_is_pinned(name):
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    lines = [line for line in lines if line and line != "-r requirements.txt"]

    assert lines
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line


def test_jobs_run_under_every_restriction_of_the_platform():
    script = (ROOT / "test.sh").read_text()
    restrictions = ["--network none", "--read-only", "--tmpfs /tmp", "--cap-drop ALL", "--memory 16g"]
    for restriction in [*restrictions, "--security-opt no-new-privileges", ":/input:ro"]:
        assert restriction in script


# ---- the scripts, with a docker that does what a test says ----------------------------------------------


@pytest.fixture
def script(tmp_path):
    """Run a copy of a script beside a copy of what it reads, with `docker` replaced by a shell script."""
    scripts = ("build.sh", "export.sh", "test.sh", "test/container/check_output.py")
    for name in (*scripts, "amf/__init__.py", ".dockerignore"):
        (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "checkout" / name)

    def run(name, *arguments, docker="exit 0"):
        fake = tmp_path / "bin" / "docker"
        fake.parent.mkdir(exist_ok=True)
        fake.write_text(f'#!/bin/bash\necho "$@" >>{tmp_path}/calls\n{docker}\n')
        fake.chmod(0o755)
        environment = {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}"}
        command = [tmp_path / "checkout" / name, *arguments]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

    return run


def write_checkout(folder, name, text=""):
    file = folder / "checkout" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


BUILD = 'tar --list --file - >"$0.context"'


@pytest.fixture
def checkout(tmp_path):
    """All that a build takes, empty, and some things that it must not."""
    names = ["Dockerfile", "requirements.txt", "sbom.py", "inference.py", "amf/errors.py", "amf/files.py"]
    names += ["amf/model/bundle.py", "amf/cpu/linear.py", "amf/inference/job.py"]
    unwanted = [
        "amf/model/__pycache__/x.pyc",
        "amf/training/loop.py",
        "model/member1.safetensors.partial",
        "x",
    ]
    for name in [*names, "model/bundle.json", "model/member0.safetensors", *unwanted]:
        write_checkout(tmp_path, name)
    return {*names, "amf/__init__.py", ".dockerignore"}


@pytest.mark.parametrize(
    ("variables", "target", "members", "base"),
    [
        ({"BASE_IMAGE": "stand-in:1"}, "exec", ["member0"], "--build-arg BASE_IMAGE=stand-in:1 "),
        ({"API": "invoke", "MODEL": "other"}, "invoke", ["member0", "member1"], ""),
    ],
)
def test_build_gives_the_engine_the_bundle_and_what_the_image_holds(
    script, checkout, tmp_path, monkeypatch, variables, target, members, base
):
    (tmp_path / "other").mkdir()
    for name in ("bundle.json", "member0.safetensors", "member1.safetensors"):
        (tmp_path / "other" / name).touch()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = script("build.sh", "--network", "host", docker=BUILD)

    assert done.returncode == 0, done.stderr
    [call] = (tmp_path / "calls").read_text().splitlines()
    assert f"--target {target} --tag amf:latest" in call
    assert call.endswith(f"{base}--network host -")
    assert re.search(r"--build-arg VERSION=\d+\.\d+\.\d+ --build-arg REVISION=\w+", call)
    lines = (tmp_path / "bin" / "docker.context").read_text().splitlines()
    bundle = {"model/bundle.json", *(f"model/{member}.safetensors" for member in members)}
    assert {line for line in lines if not line.endswith("/")} == checkout | bundle


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("API", "serve", "API is 'serve', expected exec or invoke\n"),
        ("MODEL", "nowhere", "nowhere/bundle.json is missing: the image would have no weights\n"),
    ],
)
def test_build_refuses_another_api_and_a_folder_that_is_no_bundle(
    script, tmp_path, monkeypatch, name, value, sentence
):
    monkeypatch.setenv(name, value)
    done = script("build.sh", docker=BUILD)

    assert (done.returncode, done.stderr) == (1, sentence)
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


def test_export_completes_a_name_without_a_tag_and_saves_one_image(script, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGE", "registry:5000/team/amf")
    done = script("export.sh", tmp_path / "a.tar.gz", docker=save("registry:5000/team/amf:latest"))

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.tar.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert "registry:5000/team/amf:latest alone" in done.stdout
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
@pytest.mark.parametrize(
    ("api", "device", "options"), [("", "cuda:0", ["--gpus", "all"]), ("invoke", "cpu", [])]
)
def test_the_image_passes_when_its_answers_are_as_expected(script, api, device, options):
    done = script("test.sh", *options, docker=engine(api=api, device=device))

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"passed: amf:latest ({api or 'exec'})\n")


@pytest.mark.usefixtures("one_job")
@pytest.mark.parametrize("api", ["", "invoke"])
def test_with_a_gpu_the_answers_must_come_from_it(script, api):
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
    assert "another bundle than model/: its answers are held against those of inference.py" in done.stdout


EITHER = [
    ({"answer": ANSWER.replace("0.25", "0.75")}, "wrong answer"),
    ({"leaves": 'touch "$work/output/x"'}, "no job left x in /output"),
    ({"code_for_broken_bundle": 0}, "a broken bundle"),
    ({"other_bundle_is_used": False}, "the log lacks 'bundle uploaded on '"),
]
EXEC = [
    ({"answer": "[]"}, "wrong answer"),
    ({"user": ""}, "runs as root"),
    ({"compilers": "/usr/bin/gcc"}, "holds compilers: /usr/bin/gcc"),
    ({"leftovers": "/opt/app/.git"}, "holds caches or secrets: /opt/app/.git"),
    ({"variable": "HUB_TOKEN=x"}, "has secrets in its environment: HUB_TOKEN=x"),
    ({"bill": '{"components": []}'}, "the bill of materials lacks a requirement"),
    ({"code": 3, "stderr": "no bundle"}, "ended with code 3: no bundle"),
    ({"stderr": "a warning"}, "wrote to stderr: a warning"),
    ({"code_for_no_job": 1}, "no job ended with code 1, expected 2"),
    ({"api": "serve"}, "has the API method 'serve', which the platform rejects"),
]
INVOKE = [
    ({"health": "500 broken"}, "GET /health gave '500 broken'"),
    ({"invoked": "200 done"}, "got '200 done', expected 201"),
    ({"refused": "500 "}, f"no job got '500 {NO_JOB}', expected 422"),
    ({"stderr": "a warning\n"}, "broken jobs gave 2 lines on stderr"),
    ({"server_code": 137}, "ended with code 137 on SIGTERM, expected 0"),
]


@pytest.mark.usefixtures("one_job")
@pytest.mark.parametrize(
    ("options", "reason"),
    [*EITHER, *EXEC, *(({"api": "invoke", **options}, reason) for options, reason in EITHER + INVOKE)],
)
def test_an_image_fails_on_any_mismatch(script, options, reason):
    done = script("test.sh", docker=engine(**options))

    assert done.returncode == 1
    assert reason in done.stderr
    assert "passed" not in done.stdout


def test_the_bill_of_materials_survives_a_distribution_without_a_name(tmp_path):
    (tmp_path / "broken-1.0.dist-info").mkdir()
    (tmp_path / "broken-1.0.dist-info" / "METADATA").write_text("Version: 1.0\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, ROOT / "sbom.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert f"left out {tmp_path}" in done.stderr
    assert any(component["name"] == "torch" for component in json.loads(done.stdout)["components"])
