"""The published patches and tables, where the checkout has them beside it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the published data (AMF_SHARED/data or ../shared/data), or skip."""
    folder = Path(os.environ.get("AMF_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no published data at {folder}")
    return folder


@pytest.fixture(scope="session")
def patches(request: pytest.FixtureRequest) -> Path:
    """The folder with the published patches as PNG files (AMF_PATCHES, or unpacked once below build/)."""
    given = os.environ.get("AMF_PATCHES")
    if given:
        return Path(given)
    data: Path = request.getfixturevalue("shared_data")
    folder = ROOT / "build" / "patches"
    if not folder.is_dir():
        partial = folder.with_name("patches.partial")
        subprocess.run([sys.executable, data / "unpack.py", partial], check=True)
        partial.rename(folder)
    return folder
