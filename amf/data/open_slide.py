"""Open a slide, whatever wrote it: OpenSlide reads what scanners write and DICOM, tifffile any other TIFF."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray

from amf.data.slide import CACHE_BYTES, Level, ReadPixels, Slide, on_white
from amf.data.tiff_slide import check_depth, open_tiff
from amf.errors import DataError

LISTED = 3
"""So many names stand in a sentence."""


def open_slide(path: Path) -> Slide:
    """Open a slide: a file, or a folder with one series of DICOM files.

    Raises
    ------
    DataError : there is no such file, or neither OpenSlide nor tifffile reads it as 8-bit RGB.
    """
    if not path.exists():
        raise DataError(f"{path}: no such slide")
    file = _dicom_file(path) if path.is_dir() else path
    try:
        if openslide.OpenSlide.detect_format(file) in (None, "generic-tiff"):
            return open_tiff(path)
        check_depth(file)
        return _open_scan(path, openslide.OpenSlide(file))
    except openslide.OpenSlideError as error:
        raise DataError(f"{path} cannot be read as a slide: {error}") from error


def _dicom_file(folder: Path) -> Path:
    """One file of the only scan in a folder; OpenSlide finds the others beside it."""
    series: dict[str, Path] = {}
    faults: list[str] = []
    for file in sorted(folder.iterdir()):
        if not file.is_file() or openslide.OpenSlide.detect_format(file) != "dicom":
            continue
        try:
            with openslide.OpenSlide(file) as opened:
                series.setdefault(str(opened.properties.get("dicom.SeriesInstanceUID")), file)
        except openslide.OpenSlideError as error:
            faults.append(str(error))
    if len(series) == 1:
        return next(iter(series.values()))
    if series:
        files = ", ".join(file.name for file in [*series.values()][:LISTED])
        raise DataError(
            f"{folder} holds {len(series)} DICOM series (of {files}): "
            "name one file of the series that is meant"
        )
    reason = f": {faults[0]}" if faults else ""
    raise DataError(f"{folder} is a folder without a DICOM slide, expected a slide's file{reason}")


def _open_scan(path: Path, handle: openslide.OpenSlide) -> Slide:
    handle.set_cache(openslide.OpenSlideCache(CACHE_BYTES))

    def region_of(number: int, downsample: float) -> ReadPixels:
        def region(left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
            place = round(left * downsample), round(top * downsample)  # OpenSlide counts in px of level 0
            return on_white(np.asarray(handle.read_region(place, number, (width, height))))

        return region

    properties: Mapping[str, str] = handle.properties
    levels = tuple(
        Level(width, height, downsample, region_of(number, downsample))
        for number, ((width, height), downsample) in enumerate(
            zip(handle.level_dimensions, handle.level_downsamples, strict=True)
        )
    )
    offset = int(properties.get("openslide.bounds-x", 0)), int(properties.get("openslide.bounds-y", 0))
    tile_height = int(properties.get("openslide.level[0].tile-height", 256))
    return Slide(path, levels, _um_per_px(properties), offset, tile_height)


def _um_per_px(properties: Mapping[str, str]) -> tuple[float, float] | None:
    """What OpenSlide knows, or the TIFF tags that it hands on untranslated."""
    if "openslide.mpp-x" in properties:
        return float(properties["openslide.mpp-x"]), float(properties.get("openslide.mpp-y", "nan"))
    um = {"centimeter": 1e4, "inch": 25_400.0}.get(properties.get("tiff.ResolutionUnit", ""))
    x, y = (float(properties.get(f"tiff.{axis}Resolution", "0")) for axis in "XY")
    return (um / x, um / y) if um is not None and min(x, y) > 0 else None
