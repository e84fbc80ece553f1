"""The wheel in environments that hold what an extra asks for and nothing else, and the commands of each."""

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

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
    for name in (
        "pyproject.toml",
        "setup.py",
        "LICENSE",
        "NOTICE",
        *(p.name for p in ROOT.glob("requirements*.txt")),
    ):
        shutil.copy(ROOT / name, checkout)
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
        if not any(
            requirement.marker is None or requirement.marker.evaluate({"extra": e}) for e in ("", *extras)
        ):
            return
        if (name := requirement.name.lower()) in self.packages:
            return
        self.packages.add(name)
        found = distribution(requirement.name)
        for entry in {
            file.parts[0] for file in found.files or [] if file.parts[0] not in ("..", "__pycache__")
        }:
            if not (site / entry).exists():
                (site / entry).symlink_to(INSTALLED / entry)
        for needed in found.requires or []:
            self._link(Requirement(needed), set(requirement.extras), site)

    def amf(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run the installed command from a folder that is no checkout."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(self.folder / "bin" / "amf"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=environment)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """No extra: score, serve."""
    return Environment(tmp_path_factory.mktemp("plain") / "venv", wheel, set())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two patches of the drawn stack."""
    from PIL import Image

    with Image.open(next((ROOT / "test" / "input" / "tiff").rglob("*.tif"))) as stack:
        for page in range(2):
            stack.seek(page)
            stack.convert("RGB").save(tmp_path / f"{page}.png")
    return tmp_path


def test_without_an_extra_patches_are_scored_by_the_bundle_in_the_wheel(
    plain: Environment, folder: Path
) -> None:
    done = plain.amf("predict", folder, "--output", folder / "table.csv", "--device", "cpu")

    assert done.returncode == 0, done.stderr
    assert len((folder / "table.csv").read_text().splitlines()) == 3
    assert not {"accelerate", "scikit-learn", "openslide-python", "matplotlib"} & plain.packages


def test_the_wheel_is_the_public_api(plain: Environment, folder: Path) -> None:
    script = f"import amf; print(len(amf.load(device='cpu').predict({str(folder / '0.png')!r})))"
    command = [plain.folder / "bin" / "python", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=plain.folder)

    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_help_and_inspect_need_no_extra(plain: Environment) -> None:
    done = plain.amf("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "verify a bundle" in done.stdout
    done = plain.amf("inspect", ROOT / "model")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("bundle       compact")


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["slide", "slide.tif", "figures.csv", "--output", "out.geojson"], "slides"),
        (["fit", RECIPE, "--data", "data", "--out", "out"], "train"),
        (["evaluate", "table.csv", "--output", "out"], "train"),
    ],
)
def test_a_command_whose_extra_is_absent_names_it(plain: Environment, command: list[str], extra: str) -> None:
    done = plain.amf(*command)

    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(f"`amf {command[0]}` needs the package ")
    assert sentence.endswith(
        f"which is not installed: run `pip install '.[{extra}]'` in the checkout, "
        f"or install the wheel with [{extra}]"
    )


@pytest.mark.parametrize(
    ("extra", "commands"),
    [
        ("slides", ["slide", "review"]),
        (
            "train",
            ["data", "augment", "fit", "final", "evaluate"],
        ),
    ],
)
def test_the_commands_of_an_extra_find_their_packages(
    tmp_path: Path, wheel: Path, extra: str, commands: list[str]
) -> None:
    """Each is asked for a file that is not there: it says so, which it can only once all is imported."""
    environment = Environment(tmp_path / "venv", wheel, {extra})
    given = {
        "slide": ["absent.tif", "absent.csv", "--output", "out.geojson"],
        "review": ["absent.csv", "--output", "page.html"],
        "data": ["absent.yaml", "--root", ".", "--out", "out"],
        "fetch": ["absent", "--root", "out"],
        "augment": ["--patches", "absent", "--out", "out.png"],
        "calibrate": ["--lodo", "absent", "--out", "out"],
        "evaluate": ["absent.csv", "--output", "out"],
    }
    recipe = [RECIPE, "--data", "absent", "--out", "out"]
    lines = [[command, *given.get(command, recipe)] for command in commands]
    script = f"from amf.cli import main\nfor line in {lines}:\n    assert main(line) == 2, line"
    command = [environment.folder / "bin" / "python", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=environment.folder)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "absent" in line]
    assert len(said) == len(commands), done.stderr
    assert "not installed" not in done.stderr


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_other_versions_of_python_compile_and_import_the_package(
    version: str, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_the_checkout_runs_without_being_installed() -> None:
    done = subprocess.run([sys.executable, "-m", "amf", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "predict" in done.stdout
