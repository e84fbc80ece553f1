"""Draw the jobs under test/input/: one stack, as TIFF and as MHA, in each form of inputs.json.

    python test/container/draw_fixtures.py [FOLDER]        FOLDER: where the jobs go, default test/input/

Nothing here is tissue: no real patch may be published with the project, so these are drawn. A page is
drawn as two maps of stain density, haematoxylin and eosin, at twice the final resolution; Beer-Lambert
turns them into light (I = I0 * 10^-OD), and the scanner's blur, sharpening and noise come last. The same
seed gives the same bytes. What a model makes of the pages is in test/expected.json; after the drawing
or the bundle has changed, `make expected` writes it anew.
"""

import json
import shutil
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from PIL import Image

Density = NDArray[np.float64]  # (2 * SIDE_PX, 2 * SIDE_PX), optical density of one stain
Blobs = list[
    tuple[float, float, float]
]  # x, y, radius in px from the figure's centre: chromatin is their union

SEED = 20250802
SIDE_PX = 128
UM_PER_PX = 0.248
PIXELS_PER_INCH = 102351  # 25400 / UM_PER_PX, as rounded by the organisers' own stack
SLUG = "stacked-histopathology-roi-cropouts"

# Optical density per unit of stain in R, G, B.
HAEMATOXYLIN = np.array([0.64, 0.71, 0.28])
EOSIN = np.array([0.12, 0.93, 0.33])
WHITE = 243.0  # grey value of bare glass

# Every pixel of the double-resolution canvas, in final px.
_AXIS_PX = (np.arange(2 * SIDE_PX) + 0.5) / 2
Y_PX, X_PX = np.meshgrid(_AXIS_PX, _AXIS_PX, indexing="ij")
CENTRE_PX = SIDE_PX / 2


# ---- chromatin of one figure, as blobs ------------------------------------------------------------------


def plate(rng: Generator) -> Blobs:
    """Metaphase from the side: one bar, slightly bent."""
    return _bar(
        rng, length_px=rng.uniform(20, 27), radius_px=rng.uniform(2.9, 3.8), bend_px=rng.uniform(-2, 2)
    )


def ring(rng: Generator) -> Blobs:
    """Metaphase seen from a pole, or prometaphase: a clumped ring with a paler middle."""
    angles = np.arange(11) * 2 * np.pi / 11 + rng.normal(0, 0.12, 11)
    radii_px = rng.uniform(6.5, 8) + rng.normal(0, 0.9, 11)
    return [
        (r * np.cos(a), 0.85 * r * np.sin(a), rng.uniform(2.4, 3.7))
        for a, r in zip(angles, radii_px, strict=True)
    ]


def anaphase(rng: Generator) -> Blobs:
    """Two equal, parallel daughter plates, their ends towards the poles."""
    half_gap_px = rng.uniform(10, 13)
    length_px, radius_px = rng.uniform(17, 22), rng.uniform(2.8, 3.4)
    upper = _bar(rng, length_px, radius_px, bend_px=-1, jitter_px=0.2)
    lower = _bar(rng, length_px, radius_px, bend_px=1, jitter_px=0.2)
    return _shift(upper, 0, -half_gap_px) + _shift(lower, 0, half_gap_px)


def tripolar(rng: Generator) -> Blobs:
    """Three arms towards three poles."""
    blobs = []
    for turn in (0, 2.1, 4.2):
        arm = _shift(_bar(rng, length_px=rng.uniform(9, 14), radius_px=rng.uniform(2.6, 3.4)), 6.5, 0)
        blobs += _turn(arm, turn + rng.normal(0, 0.15))
    return blobs


def lagging(rng: Generator) -> Blobs:
    """Anaphase with a bridge between the plates and chromosomes left behind."""
    bridge_x_px = rng.uniform(-5, 5)
    bridge = [(bridge_x_px + rng.normal(0, 0.4), y, rng.uniform(0.8, 1.2)) for y in np.arange(-8, 8.1, 1.3)]
    laggards = [(-bridge_x_px + rng.normal(0, 3), rng.uniform(-3, 3), rng.uniform(1.2, 2)) for _ in range(2)]
    return anaphase(rng) + bridge + laggards


def asymmetric(rng: Generator) -> Blobs:
    """Two daughter plates of unequal mass, not parallel, and a stray fragment."""
    large = _turn(_bar(rng, length_px=22, radius_px=4.1, bend_px=3), rng.uniform(0.2, 0.4))
    small = _turn(_bar(rng, length_px=8, radius_px=2.3, bend_px=-1), rng.uniform(-0.5, -0.2))
    stray = [(rng.uniform(10, 14), rng.uniform(-4, 4), rng.uniform(1.2, 1.8))]
    return _shift(large, 0, -7) + _shift(small, rng.uniform(-3, 3), 9) + stray


# The pages in order: normal and atypical figures mixed, as a slide would give them.
PAGES: list[Callable[[Generator], Blobs]] = [
    *(plate, tripolar, ring, plate, lagging, anaphase, plate, asymmetric),
    *(anaphase, plate, tripolar, ring, plate, lagging, anaphase, asymmetric),
]
PAGE_AT_THE_SLIDES_EDGE = 11  # this one gets a black band: the organisers' stacks have them


def _bar(
    rng: Generator, length_px: float, radius_px: float, bend_px: float = 0, jitter_px: float = 0.6
) -> Blobs:
    """A rod along x made of overlapping blobs; `bend_px` is how far its ends lie off its middle."""
    places = np.linspace(-1, 1, max(3, round(length_px / 2.2)))
    return [
        (
            t * length_px / 2 + rng.normal(0, jitter_px),
            bend_px * (t * t - 0.4) + rng.normal(0, jitter_px),
            radius_px * rng.uniform(0.75, 1.1),
        )
        for t in places
    ]


def _shift(blobs: Blobs, dx_px: float, dy_px: float) -> Blobs:
    return [(x + dx_px, y + dy_px, r) for x, y, r in blobs]


def _turn(blobs: Blobs, angle: float) -> Blobs:
    cos, sin = np.cos(angle), np.sin(angle)
    return [(cos * x - sin * y, sin * x + cos * y, r) for x, y, r in blobs]


# ---- one page -------------------------------------------------------------------------------------------


def draw_page(figure: Callable[[Generator], Blobs], rng: Generator) -> NDArray[np.uint8]:
    """One patch with `figure` in its centre, uint8 (128, 128, 3)."""
    centres_px = _cell_centres(rng)
    haematoxylin, eosin = _cytoplasm(centres_px, rng)
    _add_fibres(eosin, rng)
    _add_nuclei(haematoxylin, eosin, centres_px[1:], rng)  # the first cell is the one dividing
    _add_dividing_cell(haematoxylin, eosin, figure(rng), rng)
    return _scan(haematoxylin, eosin, rng)


def _cell_centres(rng: Generator) -> NDArray[np.float64]:
    """Centres of all cells, (M, 2) px: the dividing one in the middle, the others at least 29 px apart."""
    centres = [(CENTRE_PX + rng.normal(0, 1.5), CENTRE_PX + rng.normal(0, 1.5))]
    for x, y in rng.uniform(-14, SIDE_PX + 14, (400, 2)):
        least_px = np.array([37.0] + [29.0] * (len(centres) - 1))  # a cell in division is round and large
        if (np.hypot(*(np.array(centres) - (x, y)).T) > least_px).all():
            centres.append((x, y))
    return np.array(centres)


def _cytoplasm(centres_px: NDArray[np.float64], rng: Generator) -> tuple[Density, Density]:
    """Granular cytoplasm, cell by cell, with pale clefts where neighbours have drawn apart."""
    x = X_PX + 3.0 * _noise(rng, 9)  # wavering borders: cells are no polygons
    y = Y_PX + 3.0 * _noise(rng, 9)
    distances_px = np.hypot(x[..., None] - centres_px[:, 0], y[..., None] - centres_px[:, 1])  # (256, 256, M)
    order = np.argpartition(distances_px, 1, axis=-1)[..., :2]  # the two nearest, in order
    nearest_px, next_px = np.moveaxis(np.take_along_axis(distances_px, order, axis=-1), -1, 0)
    cleft = np.exp(-(((next_px - nearest_px) / rng.uniform(2.5, 7)) ** 2)) * _step(_noise(rng, 13), 0.6, 0.3)

    per_cell = rng.normal(0, 0.04, len(centres_px))[order[..., 0]]
    granules = 0.055 * _noise(rng, 0.8) + 0.035 * _noise(rng, 2) + 0.03 * _noise(rng, 7)
    eosin = 0.29 + per_cell + granules + 0.03 * _noise(rng, 16)
    haematoxylin = 0.17 + 0.5 * per_cell + 0.6 * granules + 0.025 * _noise(rng, 1.0) + 0.02 * _noise(rng, 12)
    vacuole = _step(_noise(rng, 5), 2.0, 0.25)
    empty = np.clip(cleft + 0.6 * vacuole, 0, 0.97)
    return haematoxylin * (1 - empty), eosin * (1 - empty)


def _add_fibres(eosin: Density, rng: Generator) -> None:
    """A strand of collagen through some of the pages, off the centre."""
    if rng.random() < 0.55:
        return
    angle = rng.uniform(0, np.pi)
    along = (X_PX - CENTRE_PX) * np.cos(angle) + (Y_PX - CENTRE_PX) * np.sin(angle)
    across = (Y_PX - CENTRE_PX) * np.cos(angle) - (X_PX - CENTRE_PX) * np.sin(angle)
    across += (
        rng.choice([-1, 1]) * rng.uniform(40, 52) + 4 * np.sin(along / rng.uniform(14, 25)) + _noise(rng, 8)
    )
    strand = np.exp(-((across / rng.uniform(4, 8)) ** 4))
    eosin += strand * (0.20 + 0.10 * np.sin(across * 1.9 + 1.5 * _noise(rng, 6)))


def _add_nuclei(
    haematoxylin: Density, eosin: Density, centres_px: NDArray[np.float64], rng: Generator
) -> None:
    """Nuclei at rest: membrane, chromatin in clumps, clear spaces between them, often a nucleolus."""
    clumps = _step(_noise(rng, 1.3) + 0.5 * _noise(rng, 3), 0.9, 0.22)
    chromatin = np.clip(0.12 + 0.06 * _noise(rng, 2.5) + 0.40 * clumps, 0, None)
    waver = 1 + 0.35 * _noise(rng, 2)
    for x_px, y_px in centres_px:
        long_px, roundness, turn = rng.uniform(12, 17), rng.uniform(0.62, 0.95), rng.uniform(0, np.pi)
        reach_px = 1.5 * long_px
        near = tuple(
            slice(max(0, int(2 * (centre - reach_px))), max(0, int(2 * (centre + reach_px))))
            for centre in (y_px, x_px)
        )
        dx, dy = X_PX[near] - x_px, Y_PX[near] - y_px
        along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
        angle = np.arctan2(across, along)
        outline = 1 + sum(
            rng.normal(0, 0.05 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4, 5)
        )
        radius = np.hypot(along / long_px, across / (long_px * roundness)) / outline  # 1 on the membrane

        inside = _step(1 - radius, 0, 0.05)
        membrane = np.exp(-(((radius - 0.96) / 0.06) ** 2)) * waver[near]
        nucleolus = np.zeros_like(radius)
        for _ in range(rng.integers(0, 3)):
            spot_x, spot_y = rng.normal(0, 0.28, 2) * long_px
            nucleolus += np.exp(-(((dx - spot_x) ** 2 + (dy - spot_y) ** 2) / rng.uniform(1.5, 2.1) ** 2))
        darkness = rng.uniform(0.5, 1.35)  # some nuclei are dense, some washed out
        haematoxylin[near] += darkness * (inside * chromatin[near] + 0.36 * membrane + 0.45 * nucleolus)
        eosin[near] += inside * (0.10 * clumps[near] - 0.02)


def _add_dividing_cell(haematoxylin: Density, eosin: Density, blobs: Blobs, rng: Generator) -> None:
    """The figure in a rounded cell without a nuclear membrane, its cytoplasm cleared and granular."""
    blobs = _turn(blobs, rng.uniform(0, 2 * np.pi))
    dx, dy = X_PX - CENTRE_PX, Y_PX - CENTRE_PX
    radius = np.hypot(dx, dy / rng.uniform(0.82, 1)) + 1.6 * _noise(rng, 7)
    cell_px = rng.uniform(21, 25)
    inside = _step(cell_px - radius, 0, 0.9)
    border = np.exp(-(((radius - cell_px) / 1.1) ** 2))
    retracted = np.exp(-(((radius - cell_px - 3) / 1.8) ** 2)) * _step(_noise(rng, 10), 0.3, 0.4)
    cleared = rng.uniform(0.2, 0.5) * _step(0.75 * cell_px - radius, 0, 2)
    for stain in (haematoxylin, eosin):
        stain *= (1 - cleared) * (1 - 0.85 * retracted)
        stain += inside * 0.04 * _noise(rng, 1.1)
    eosin += 0.10 * border

    # Signed distance to the union of the blobs (> 0 inside), its edge frayed by chromosome arms.
    depth_px = np.max([r - np.hypot(dx - x, dy - y) for x, y, r in blobs], axis=0)
    chromatin = _step(depth_px + 0.35 * _noise(rng, 1.2), 0, 0.28)
    haematoxylin += chromatin * (1.00 + 0.16 * _noise(rng, 1.3)) + 0.10 * _step(depth_px, -2.0, 1.0)
    eosin += 0.30 * chromatin


def _scan(haematoxylin: Density, eosin: Density, rng: Generator) -> NDArray[np.uint8]:
    """Beer-Lambert's light through the stains, then optics, sharpening and noise; uint8 (128, 128, 3)."""
    density = haematoxylin[..., None] * HAEMATOXYLIN + eosin[..., None] * EOSIN  # (256, 256, 3)
    light = WHITE * 10 ** -np.clip(density, 0, 1.6)
    light = np.stack([_blur(light[..., c], rng.uniform(0.6, 0.8)) for c in range(3)], axis=-1)
    light += 0.7 * (light - np.stack([_blur(light[..., c], 1.3) for c in range(3)], axis=-1))
    pixels = light.reshape(SIDE_PX, 2, SIDE_PX, 2, 3).mean(axis=(1, 3))  # (128, 128, 3)
    pixels += rng.normal(0, 2.2, pixels.shape) + rng.normal(0, 1.5, (SIDE_PX, SIDE_PX, 1))
    return np.clip(pixels.round(), 0, 255).astype(np.uint8)


def _noise(rng: Generator, scale_px: float) -> Density:
    """A smooth random field with mean 0 and standard deviation 1, its features about `scale_px` wide."""
    field = _blur(rng.standard_normal((2 * SIDE_PX, 2 * SIDE_PX)), scale_px)
    return (field - field.mean()) / field.std()


def _blur(image: Density, sigma_px: float) -> Density:
    """Gaussian blur with the borders joined, in the frequency domain."""
    rows, columns = np.fft.fftfreq(2 * SIDE_PX, d=0.5), np.fft.rfftfreq(2 * SIDE_PX, d=0.5)  # cycles per px
    gain = np.exp(-2 * (np.pi * sigma_px) ** 2 * (rows[:, None] ** 2 + columns**2))
    return np.fft.irfft2(np.fft.rfft2(image) * gain)


def _step(value: Density, at: float, width: float) -> Density:
    """0 below `at`, 1 above, the change spread over `width`."""
    return 1 / (1 + np.exp(-np.clip((value - at) / width, -60, 60)))


# ---- the job folders ------------------------------------------------------------------------------------


def draw_stack() -> NDArray[np.uint8]:
    """All pages, uint8 (16, 128, 128, 3)."""
    pages = np.stack([draw_page(figure, default_rng([SEED, page])) for page, figure in enumerate(PAGES)])
    pages[PAGE_AT_THE_SLIDES_EDGE, : SIDE_PX // 7] = 0
    return pages


def write_jobs(folder: Path) -> None:
    """Write jobs, each what the platform mounts at /input.

    tiff, mha : one stack in both formats, its socket under `interface`, as the platform wrote it until 2025.
    socket : the TIFF, its socket under `socket` alone, as the starter kit of 2026 has it.
    both : the MHA, its socket under both keys, as the platform writes it for older containers.
    """
    pages = draw_stack()
    interface = {"slug": SLUG, "kind": "Image", "super_kind": "Image", "relative_path": f"images/{SLUG}"}
    kinds = {"is_image_kind": True, "is_panimg_kind": True, "is_dicom_image_kind": False}
    kinds |= {"is_json_kind": False, "is_file_kind": False}
    socket = {"slug": SLUG, "relative_path": f"images/{SLUG}", **kinds, "example_value": None}

    tiff = _job(folder / "tiff", 0, "tiff", interface=interface)
    first, *rest = [Image.fromarray(page) for page in pages]
    first.save(
        tiff,
        format="TIFF",
        save_all=True,
        append_images=rest,
        compression="tiff_adobe_deflate",
        resolution_unit=2,
        x_resolution=float(PIXELS_PER_INCH),
        y_resolution=float(PIXELS_PER_INCH),
    )
    mha = _job(folder / "mha", 1, "mha", interface=interface)
    image = SimpleITK.GetImageFromArray(pages, isVector=True)  # size (128, 128, 16), 3 components
    image.SetSpacing((UM_PER_PX / 1000, UM_PER_PX / 1000, 1.0))  # mm
    SimpleITK.WriteImage(image, str(mha), useCompression=True)
    shutil.copy(tiff, _job(folder / "socket", 2, "tiff", socket=socket))
    shutil.copy(mha, _job(folder / "both", 3, "mha", socket=socket, interface=interface))


def _job(folder: Path, number: int, suffix: str, **sockets: dict[str, object]) -> Path:
    """Write the job's inputs.json; return the path that takes its image."""
    images = folder / "images" / SLUG
    images.mkdir(parents=True, exist_ok=True)
    entry = {"file": None, "image": {"name": f"stack.{suffix}"}, "value": None, **sockets}
    (folder / "inputs.json").write_text(json.dumps([entry], indent=4) + "\n", encoding="utf-8")
    return images / f"{_file_name(number)}.{suffix.replace('tiff', 'tif')}"


def _file_name(job: int) -> str:
    """The platform names an image by a UUID that nobody knows beforehand."""
    return str(uuid.UUID(bytes=default_rng([SEED, len(PAGES) + job]).bytes(16), version=4))


if __name__ == "__main__":
    write_jobs(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "input")
