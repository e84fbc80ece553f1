"""The wheel in environments that hold what an extra asks for and nothing else, and the commands of each."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from test.support.drawn import draw_patch, draw_patches, drawn_table
from test.support.fixtures import Patch
from test.support.paths import ROOT

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
PIP_OPTIONS = ["--quiet", "--no-index", "--no-deps"]
INSTALLED = Path(sysconfig.get_path("purelib"))
RECIPE = str(ROOT / "recipes" / "compact.yaml")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the checkout: setuptools builds beside its sources."""
    folder = tmp_path_factory.mktemp("package")
    checkout = folder / "checkout"
    for name in ("amf", "model"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "LICENSE", "NOTICE", "requirements*.txt"):
        for path in ROOT.glob(name):
            shutil.copy(path, checkout)
    command = [
        *PIP,
        "wheel",
        *PIP_OPTIONS,
        "--no-build-isolation",
        "--wheel-dir",
        folder / "wheels",
        checkout,
    ]
    subprocess.run(command, check=True)
    (path,) = (folder / "wheels").iterdir()
    return path


class Environment:
    """An empty environment with the wheel and links to the packages that it asks for with some extras."""

    def __init__(self, folder: Path, wheel: Path, extras: set[str]) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        python = folder / "bin" / "python"
        subprocess.run([*PIP, "--python", python, "install", *PIP_OPTIONS, wheel], check=True)
        (site,) = (folder / "lib").glob("python*/site-packages")
        (metadata,) = site.glob("amf-*.dist-info/METADATA")
        lines = [line for line in metadata.read_text().splitlines() if line.startswith("Requires-Dist: ")]
        self.packages: set[str] = set()
        for line in lines:
            self._link(Requirement(line.removeprefix("Requires-Dist: ")), extras, site)

    def _link(self, requirement: Requirement, extras: set[str], site: Path) -> None:
        """Link a requirement that holds here, and what it requires in turn."""
        marker, name = requirement.marker, requirement.name.lower()
        if not any(marker is None or marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            return
        if name in self.packages:
            return
        self.packages.add(name)
        found = distribution(requirement.name)
        for entry in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            if not (site / entry).exists():
                (site / entry).symlink_to(INSTALLED / entry)
        for needed in found.requires or []:
            self._link(Requirement(needed), set(requirement.extras), site)

    def run(self, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run an installed program from a folder that is no checkout."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(self.folder / "bin" / program), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=environment)

    def amf(self, *lines: list[str]) -> tuple[list[int], list[str]]:
        """Several lines of the command in one process: their exit codes, and the lines on stderr."""
        done = self.run("python", "-c", f"from amf.cli import main; print([main(line) for line in {lines}])")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1]), done.stderr.splitlines()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """No extra: score, serve."""
    return Environment(tmp_path_factory.mktemp("plain") / "venv", wheel, set())


def test_without_an_extra_patches_are_scored_by_the_bundle_in_the_wheel(
    plain: Environment, tmp_path: Path
) -> None:
    draw_patches(drawn_table(2), tmp_path)
    done = plain.run("amf", "predict", tmp_path, "--output", tmp_path / "table.csv", "--device", "cpu")

    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 3
    assert not {"accelerate", "scikit-learn", "openslide-python", "matplotlib"} & plain.packages


def test_the_wheel_is_the_public_api(plain: Environment, tmp_path: Path) -> None:
    draw_patch(tmp_path / "0.png")
    script = f"import amf; print(len(amf.load(device='cpu').predict({str(tmp_path / '0.png')!r})))"
    done = plain.run("python", "-c", script)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


MISSING = [
    (["slide", "slide.tif", "figures.csv", "--output", "out.geojson"], "slides"),
    (["fit", RECIPE, "--data", "data", "--out", "out"], "train"),
    (["evaluate", "table.csv", "--output", "out"], "train"),
]


def test_help_and_inspect_need_no_extra_and_a_command_whose_extra_is_absent_names_it(
    plain: Environment,
) -> None:
    codes, said = plain.amf(["--help"], ["inspect", str(ROOT / "model")], *(line for line, _ in MISSING))
    assert codes == [0, 0, 2, 2, 2]
    for (command, extra), sentence in zip(MISSING, said, strict=True):
        assert sentence.startswith(f"`amf {command[0]}` needs the package ")
        remedy = f"run `pip install '.[{extra}]'` in the checkout, or install the wheel with [{extra}]"
        assert sentence.endswith(f"which is not installed: {remedy}")


TRAIN = [RECIPE, "--data", "absent", "--out", "out"]
COMMANDS = {
    "slides": [
        ["slide", "absent.tif", "absent.csv", "--output", "out.geojson"],
        ["review", "absent.csv", "--output", "page.html"],
    ],
    "train": [
        ["data", "absent.yaml", "--root", ".", "--out", "out"],
        ["augment", "--patches", "absent", "--out", "out.png"],
        ["fit", *TRAIN],
        ["final", *TRAIN],
        ["evaluate", "absent.csv", "--output", "out"],
    ],
}


@pytest.mark.parametrize("extra", COMMANDS)
def test_the_commands_of_an_extra_find_their_packages(tmp_path: Path, wheel: Path, extra: str) -> None:
    """Each is asked for a file that is not there: it says so, which it can only once all is imported."""
    codes, said = Environment(tmp_path / "venv", wheel, {extra}).amf(*COMMANDS[extra])
    assert codes == [2] * len(COMMANDS[extra])
    assert len([line for line in said if "absent" in line]) == len(codes), said
    assert "not installed" not in "".join(said)


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_other_versions_of_python_compile_and_import_the_package(
    version: str, wheel: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    python = shutil.which(f"python{version}")
    monkeypatch.setenv("PYENV_VERSION", version)  # where pyenv's stand-in is what was found
    if python is None or subprocess.run([python, "-V"], capture_output=True).returncode:
        pytest.skip(f"no Python {version} is at hand")
    shutil.unpack_archive(wheel, tmp_path, "zip")
    subprocess.run([python, "-W", "error", "-m", "compileall", "-q", "amf"], cwd=tmp_path, check=True)
    done = subprocess.run(
        [python, "-c", "import amf; print(amf.__version__)"], cwd=tmp_path, capture_output=True
    )

    assert done.returncode == 0, done.stderr
