"""The package: a wheel built from the checkout, installed into an empty environment, and its command run."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from test.support.paths import ROOT

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
PIP_OPTIONS = ["--quiet", "--no-index", "--no-deps"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("package")
    checkout = folder / "checkout"  # a copy: setuptools builds beside its sources
    shutil.copytree(ROOT / "amf", checkout / "amf", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "requirements-train.txt"):
        shutil.copy(ROOT / name, checkout)
    wheels = folder / "wheels"
    subprocess.run(
        [*PIP, "wheel", *PIP_OPTIONS, "--no-build-isolation", "--wheel-dir", wheels, checkout], check=True
    )
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (wheel,) = wheels.iterdir()
    subprocess.run(
        [*PIP, "--python", folder / "venv" / "bin" / "python", "install", *PIP_OPTIONS, wheel], check=True
    )
    return folder / "venv"


def amf(environment: Path, *arguments: object, packages: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the installed command; `packages` shows it those of this interpreter, as if installed beside it."""
    paths = {"PYTHONPATH": sysconfig.get_path("purelib")} if packages else {}
    return subprocess.run(
        [environment / "bin" / "amf", *arguments],
        capture_output=True,
        text=True,
        cwd=environment,
        env={**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, **paths},
    )


def test_the_installed_command_names_every_command(environment: Path) -> None:
    done = amf(environment, "--help", packages=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: amf [OPTIONS] COMMAND")
    assert "inspect   verify a bundle" in done.stdout


def test_the_installed_command_inspects_the_bundle_that_ships(environment: Path) -> None:
    done = amf(environment, "inspect", ROOT / "model", packages=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("bundle       compact")


def test_an_installed_predict_asks_for_a_bundle(environment: Path) -> None:
    (environment / "a.png").touch()
    done = amf(environment, "predict", "a.png", "--output", "a.csv", packages=True)
    assert done.returncode == 3
    assert done.stderr.startswith("no bundle ships with this installation")


def test_the_checkout_runs_without_being_installed() -> None:
    done = subprocess.run([sys.executable, "-m", "amf", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: amf [OPTIONS] COMMAND")
