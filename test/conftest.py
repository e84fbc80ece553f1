"""What several test modules share: real patches where they are at hand, small bundles, job folders."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # the networks here are tiny: a second thread costs more than it brings

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from amf.inference.sockets import INPUT_SOCKET as SOCKET
from amf.model import bundle
from amf.model.backbones import BACKBONES
from amf.model.classifier import Classifier, HeadSpec
from amf.model.preprocess import ImageSpec
from amf.model.spec import BundleSpec, MemberSpec
from test.support.jobs import save_tiff, write_job
from test.support.paths import ROOT

if TYPE_CHECKING:
    from test.support.browser import Window


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The published data sets, in `shared/data` beside the checkout (or $AMF_SHARED/data)."""
    folder = Path(os.environ.get("AMF_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"the published data sets are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def patches(shared_data: Path) -> Path:
    """The published patches as PNG files, unpacked once into build/patches (or taken from $AMF_PATCHES)."""
    if "AMF_PATCHES" in os.environ:
        return Path(os.environ["AMF_PATCHES"])
    folder = ROOT / "build" / "patches"
    if not folder.is_dir():
        partial = folder.with_name("patches.partial")
        subprocess.run([sys.executable, shared_data / "unpack.py", partial], check=True, capture_output=True)
        partial.rename(folder)
    return folder


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Window"]:
    """One browser for all tests of pages; selenium takes a second to import."""
    from test.support.browser import CHROMIUM, DRIVER, Window

    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium or no chromedriver is installed")
    window = Window(tmp_path_factory.mktemp("browser"))
    yield window
    window.driver.quit()


@pytest.fixture
def pages() -> NDArray[np.uint8]:
    """(5, 128, 128, 3) uint8 noise: pages that differ from each other."""
    return np.random.default_rng(0).integers(0, 256, (5, 128, 128, 3), dtype=np.uint8)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An empty folder for a job's answer."""
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Write a bundle of small random members and return its folder."""

    def make(
        name: str = "bundle",
        backbone: str = "compact",
        arguments: dict[str, object] | None = None,
        image: ImageSpec | None = None,
        hidden: int = 8,
        members: int = 1,
        views: int = 1,
        dtype: str = "float32",
        temperature: float = 1.0,
        bias: float = 0.0,
        threshold: float = 0.5,
    ) -> Path:
        if arguments is None:
            arguments = {"widths": [8, 16], "blocks": [1, 1]}
        head, image = HeadSpec(hidden), image or BACKBONES[backbone].image
        member = MemberSpec(backbone, arguments, head, image, views, "a.safetensors", "", dtype)
        weights = []
        for seed in range(members):
            torch.manual_seed(seed)
            weights.append(Classifier(backbone, arguments, head).state_dict())
        fitted_on = "nothing: random weights"
        spec = BundleSpec(name, temperature, threshold, fitted_on, (member,) * members, bias)
        bundle.write(tmp_path / name, spec, weights)
        return tmp_path / name

    return make


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Path]:
    """Write a job folder around the pages of a stack and return it."""

    def make(pages: NDArray[np.uint8], name: str = "0f1e2d.tif") -> Path:
        folder = tmp_path / "input"
        write_job(folder, name)
        save_tiff(folder / "images" / SOCKET / name, pages)
        return folder

    return make
