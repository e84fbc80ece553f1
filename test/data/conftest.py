"""The two large data sets as they are published, read once."""

from pathlib import Path

import pytest
from pandas import DataFrame

from amf.data.sources import SOURCES
from amf.data.sources.base import Reading


@pytest.fixture(scope="session")
def published_midog25(shared_data: Path) -> Reading:
    return SOURCES["midog25"]().read(shared_data)


@pytest.fixture(scope="session")
def published_amibr(shared_data: Path) -> DataFrame:
    return SOURCES["amibr"]().read(shared_data).table
