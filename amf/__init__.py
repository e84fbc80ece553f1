"""Atypical mitotic figures (AMF): normal or atypical, and how sure.

The public API is what `__all__` names; it is kept stable from version to version:

    import amf

    model = amf.load()                      # the bundle that ships; or amf.load("my-bundle", device="cpu")
    answers = model.predict(patches)        # (N, 128, 128, 3) uint8, or paths, or PIL images
    answers.labels, answers.confidences     # "normal" or "atypical", P(atypical)

docs/python.md has examples. Importing amf imports neither torch nor numpy.
"""

from os import PathLike
from typing import TYPE_CHECKING

from amf.errors import AmfError

if TYPE_CHECKING:
    from amf.inference.api import Answers, Model

__all__ = ["AmfError", "Answers", "Model", "__version__", "load"]
__version__ = "1.1.0"


def load(folder: str | PathLike[str] | None = None, *, device: str = "auto") -> "Model":
    """Load and verify a bundle, ready to score any number of patches.

    Parameters
    ----------
    folder : of the bundle; by default the one that ships with this package.
    device : "auto" takes CUDA where there is one; "cpu" and "cuda" take that device or fail.

    Raises
    ------
    AmfError : the folder holds no usable bundle, or there is no CUDA device; one sentence says which.
    """
    from amf.inference.api import open_model  # imports torch, which takes a second

    return open_model(folder, device)


def __getattr__(name: str) -> type:
    """Give `amf.Model` and `amf.Answers` when they are asked for: their module imports torch."""
    if name in ("Answers", "Model"):
        from amf.inference import api

        return getattr(api, name)
    raise AttributeError(f"module 'amf' has no attribute {name!r}")
