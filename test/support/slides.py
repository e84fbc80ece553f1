"""Slides made by code: pyramids in TIFF as scanners write them, with patches where a test wants them."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

Places = list[tuple[int, int]]


def halved(canvas: NDArray[np.uint8], times: int = 1) -> NDArray[np.uint8]:
    """The canvas as the levels of a pyramid hold it."""
    size = canvas.shape[1] >> times, canvas.shape[0] >> times
    return np.asarray(Image.fromarray(canvas).resize(size, Image.Resampling.BOX))


def smooth_noise(count: int) -> list[NDArray[np.uint8]]:
    """Patches of (128, 128, 3), all different, without an edge that a resampling would blur much."""
    small = np.random.default_rng(3).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return [
        np.asarray(Image.fromarray(patch).resize((128, 128), Image.Resampling.BICUBIC)) for patch in small
    ]


def lay(patches: Sequence[NDArray[np.uint8]], columns: int = 6) -> tuple[NDArray[np.uint8], Places]:
    """Lay (128, 128, 3) patches on a bright canvas, off the tiles' grid; centres as publishers count."""
    rows = -(-len(patches) // columns)
    canvas = np.full((rows * 150 + 37, columns * 150 + 23, 3), 240, dtype=np.uint8)
    centres = []
    for number, patch in enumerate(patches):
        left, top = 11 + 150 * (number % columns), 17 + 150 * (number // columns)
        canvas[top : top + 128, left : left + 128] = patch
        centres.append((left + 64, top + 64))
    return canvas, centres


def enlarge(canvas: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """The canvas as a scanner of `factor` times the resolution would see it, to first order."""
    size = canvas.shape[1] * factor, canvas.shape[0] * factor
    return np.asarray(Image.fromarray(canvas).resize(size, Image.Resampling.BICUBIC))


def write_pyramid(
    path: Path,
    canvas: NDArray[np.uint8],
    mpp: float | None,
    levels: int = 3,
    tile: int = 256,
    compression: str | None = "deflate",
) -> Path:
    """Write a tiled pyramidal TIFF, each level half the one before; `mpp` goes into the resolution tags."""
    resolution = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            tiff.write(
                halved(canvas, level) if level else canvas,
                tile=(tile, tile),
                photometric="rgb",
                compression=compression,
                subfiletype=1 if level else 0,
                metadata=None,
                **(resolution if level == 0 else {}),
            )
    return path


def write_scn(path: Path, canvas: NDArray[np.uint8], left: int, top: int) -> Path:
    """Write a Leica SCN file at 0.25 µm/px: what was scanned lies at (left, top) px of a larger glass."""
    height, width = canvas.shape[:2]
    glass = f'sizeX="{250 * (width + 1000)}" sizeY="{250 * (height + 1000)}"'  # nm
    size = f'sizeX="{250 * width}" sizeY="{250 * height}"'
    view = f'<view {size} offsetX="{250 * left}" offsetY="{250 * top}"/>'
    lit = "<illuminationSettings><illuminationSource>brightfield</illuminationSource></illuminationSettings>"
    objective = "<objectiveSettings><objective>{}</objective></objectiveSettings>"
    settings = f"<scanSettings>{objective}{lit}</scanSettings>"
    pixels = '<pixels sizeX="{0}" sizeY="{1}"><dimension sizeX="{0}" sizeY="{1}" r="0" ifd="{2}"/></pixels>'
    description = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="c" uuid="c" {glass}>'
        f'<image name="macro" uuid="m">{pixels.format(64, 64, 1)}<view {glass} offsetX="0" offsetY="0"/>'
        f"{settings.format(1.25)}</image>"
        f'<image name="main" uuid="i">{pixels.format(width, height, 0)}{view}{settings.format(40)}</image>'
        "</collection></scn>"
    )
    how = {"photometric": "rgb", "tile": (64, 64), "compression": "deflate", "metadata": None}
    how |= {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(canvas, description=description, **how)
        tiff.write(np.full((64, 64, 3), 200, np.uint8), **how)
    return path


Corners = list[tuple[int, int]]
TABLES = {
    "Slides": "uid INTEGER PRIMARY KEY, filename TEXT",
    "Annotations_coordinates": "uid INTEGER PRIMARY KEY, coordinateX INTEGER, coordinateY INTEGER, "
    "slide INTEGER, annoId INTEGER, orderIdx INTEGER",
    "Annotations_label": "uid INTEGER PRIMARY KEY, person INTEGER, class INTEGER, annoId INTEGER",
    "Classes": "uid INTEGER PRIMARY KEY, name TEXT, color TEXT",
}
"""Of SlideRunner's databases, but for the annotations' own, whose columns differ."""


def write_sliderunner(
    path: Path,
    annotations: list[tuple[str, Corners, str | None]],
    deleted: int | None = 0,
    agreed: bool = True,
) -> Path:
    """A database of SlideRunner with annotations (slide, corners, class), numbered from 1.

    Parameters
    ----------
    deleted : how many of the last are; None leaves the column out, as older versions do.
    agreed : classes are agreed on; else each is one person's label.
    """
    slides = sorted({slide for slide, _, _ in annotations})
    classes = sorted({name for _, _, name in annotations if name is not None})
    columns = ["uid INTEGER PRIMARY KEY", "slide INTEGER", "type INTEGER"]
    columns += ["deleted INTEGER DEFAULT 0"] if deleted is not None else []
    columns += ["agreedClass INTEGER"] if agreed else []
    with closing(sqlite3.connect(path)) as database:
        for table, names in {**TABLES, "Annotations": ", ".join(columns)}.items():
            database.execute(f"CREATE TABLE {table} ({names})")
        database.executemany("INSERT INTO Slides VALUES (?, ?)", enumerate(slides, start=1))
        database.executemany("INSERT INTO Classes (uid, name) VALUES (?, ?)", enumerate(classes, start=1))
        for uid, (slide, corners, name) in enumerate(annotations, start=1):
            number = slides.index(slide) + 1
            database.execute("INSERT INTO Annotations (uid, slide, type) VALUES (?, ?, 1)", (uid, number))
            label = None if name is None else classes.index(name) + 1
            if agreed:
                database.execute("UPDATE Annotations SET agreedClass = ? WHERE uid = ?", (label, uid))
            elif label is not None:
                database.execute("INSERT INTO Annotations_label VALUES (?, 1, ?, ?)", (uid, label, uid))
            places = [(x, y, number, uid, order) for order, (x, y) in enumerate(corners)]
            columns_of_a_place = "coordinateX, coordinateY, slide, annoId, orderIdx"
            database.executemany(
                f"INSERT INTO Annotations_coordinates ({columns_of_a_place}) VALUES (?, ?, ?, ?, ?)", places
            )
        if deleted:
            last = len(annotations) - deleted
            database.execute("UPDATE Annotations SET deleted = 1 WHERE uid > ?", (last,))
        database.commit()
    return path


def write_ome(
    path: Path,
    canvas: NDArray[np.uint8],
    unit: str = "µm",
    size: float = 0.25,
    others: Sequence[tuple[str, NDArray[np.uint8]]] = (),
    first: bool = True,
) -> Path:
    """Write an OME-TIFF as QuPath and Bio-Formats do: levels in SubIFDs, other images beside the pyramid.

    `size` is the physical size of a pixel in `unit`; `others` are written after the pyramid, or before it
    where it is not `first`.
    """
    how = {"photometric": "rgb", "tile": (64, 64), "compression": "deflate"}

    def pyramid(tiff: tifffile.TiffWriter) -> None:
        described = {"axes": "YXS", "Name": "scan", "PhysicalSizeX": size, "PhysicalSizeY": size}
        units = {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
        tiff.write(canvas, subifds=1, metadata=described | units, **how)
        tiff.write(halved(canvas), subfiletype=1, **how)

    with tifffile.TiffWriter(path, ome=True) as tiff:
        if first:
            pyramid(tiff)
        for name, image in others:
            tiff.write(image, metadata={"axes": "YXS", "Name": name, "PhysicalSizeX": 9.0}, **how)
        if not first:
            pyramid(tiff)
    return path


def write_dicom(
    path: Path, canvas: NDArray[np.uint8], mpp: float, series: str, level: int = 0, tile: int = 128
) -> Path:
    """Write one level of a DICOM slide, in tiles; the levels of one `series` (a UID) lie side by side."""
    height, width = canvas.shape[:2]
    rows, columns = -(-height // tile), -(-width // tile)
    padded = np.full((rows * tile, columns * tile, 3), 255, dtype=np.uint8)
    padded[:height, :width] = canvas
    tiles = padded.reshape(rows, tile, columns, tile, 3).swapaxes(1, 2)  # (rows, columns, tile, tile, 3)

    whole_slide_image = "1.2.840.10008.5.1.4.1.1.77.1.6"
    instance = f"{series}.{level + 1}"
    dicom = Dataset()
    dicom.file_meta = FileMetaDataset()
    dicom.file_meta.MediaStorageSOPClassUID = dicom.SOPClassUID = whole_slide_image
    dicom.file_meta.MediaStorageSOPInstanceUID = dicom.SOPInstanceUID = instance
    dicom.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dicom.StudyInstanceUID = dicom.FrameOfReferenceUID = f"{series}.0"
    dicom.SeriesInstanceUID, dicom.Modality = series, "SM"
    how = ("DERIVED", "RESAMPLED") if level else ("ORIGINAL", "NONE")
    dicom.ImageType = [how[0], "PRIMARY", "VOLUME", how[1]]
    dicom.Rows = dicom.Columns = tile
    dicom.SamplesPerPixel, dicom.PhotometricInterpretation, dicom.PlanarConfiguration = 3, "RGB", 0
    dicom.BitsAllocated = dicom.BitsStored = 8
    dicom.HighBit, dicom.PixelRepresentation = 7, 0
    dicom.NumberOfFrames = rows * columns
    dicom.TotalPixelMatrixColumns, dicom.TotalPixelMatrixRows = width, height
    dicom.DimensionOrganizationType = "TILED_FULL"
    measures, functional, optical = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [mpp / 1000, mpp / 1000]  # mm
    functional.PixelMeasuresSequence = [measures]
    dicom.SharedFunctionalGroupsSequence = [functional]
    optical.OpticalPathIdentifier = "0"
    dicom.OpticalPathSequence = [optical]
    dicom.PixelData = tiles.tobytes()
    dicom.save_as(path, enforce_file_format=True)
    return path
