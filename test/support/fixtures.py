"""Types of the fixtures that many tests ask for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch
Make = Callable[..., Path]
"""Of make_bundle and make_job."""

Pages = NDArray[np.uint8]
"""(N, 128, 128, 3)"""
