"""Where the bundle that ships lies: beside the package in a checkout or image, inside it in a wheel."""

from pathlib import Path

from amf.errors import BundleError
from amf.model.digest import FILE_NAME

_PACKAGE = Path(__file__).resolve().parents[1]
_PLACES = (_PACKAGE / "shipped", _PACKAGE.parent / "model")


def shipped_bundle() -> Path:
    """The folder of the bundle that ships.

    Raises
    ------
    BundleError : this installation has none.
    """
    for folder in _PLACES:
        if (folder / FILE_NAME).is_file():
            return folder
    raise BundleError(
        f"no bundle ships with this installation ({' and '.join(map(str, _PLACES))} have no {FILE_NAME}): "
        "name the folder of one"
    )
