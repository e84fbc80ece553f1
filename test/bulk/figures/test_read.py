"""Which slide a name means, and files that hold no figures."""

import zipfile
from pathlib import Path
from typing import Any

import pytest

from amf.bulk.figures.given import of_slide
from amf.errors import DataError
from test.support.figures import UNIT, point, read


@pytest.mark.parametrize(
    ("name", "slide"),
    [
        ("slide.tif", "slide.tif"),
        ("C:\\data\\slide.svs", "slide.tif"),
        ("TCGA-A1-A0SP-01Z-00-DX1.20D6-4E1E", "TCGA-A1-A0SP-01Z-00-DX1.20D6-4E1E.svs"),
        ("Pr\u00e4parat 3.tif", "Pra\u0308parat 3.tif"),
        ("SLIDE.NDPI", "slide.ndpi"),
        ("slide.ome.tif", "slide.tif"),
        ("slide.mrxs - Series 1", "slide.mrxs"),
        ("Case 5 - HE.svs - scan - 2", "Case 5 - HE.svs"),
        ("Case 5 - HE", "Case 5 - HE.svs"),
    ],
)
def test_names_that_mean_the_slide(name: str, slide: str) -> None:
    assert of_slide([name, "other.svs"], Path("f"), Path(slide)) == {name}


@pytest.mark.parametrize(
    ("name", "slide"), [("Case 5 - HE.svs", "Case 5.svs"), ("case", "case.7"), ("slide1", "slide.tif")]
)
def test_names_that_mean_another_slide(name: str, slide: str) -> None:
    with pytest.raises(DataError, match=f"holds figures of {name}, expected some of {slide}"):
        of_slide([name], Path("f.csv"), Path(slide))


def test_the_folder_decides_between_slides_of_one_name() -> None:
    names = ["a/slide.tif", "b/slide.tif", "slides.tif"]
    assert of_slide(names, Path("f"), Path("/data/b/slide.tif")) == {"b/slide.tif"}
    with pytest.raises(DataError, match=r"holds figures of a/slide.tif and of b/slide.tif: which is"):
        of_slide(names, Path("f"), Path("/data/c/slide.tif"))
    listed = r"holds figures of a/slide.tif, b/slide.tif, slides.tif, expected some of TCGA.1.tif"
    with pytest.raises(DataError, match=listed):
        of_slide(names, Path("f"), Path("TCGA.1.tif"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"type": "Topology"}', "is JSON with type, expected GeoJSON features, or images and annotations"),
        ("{", "is not JSON"),
        ("a,b\n1,2\n", "has the columns a, b; expected x and y"),
        ('{"images": [{"id": 1}], "annotations": [{}]}', "is no JSON of images, categories"),
        ('[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 0.9}]', "holds boxes without their images"),
        ("SQLite format 3\0" + 100 * "x", "is no database of SlideRunner or TIAToolbox"),
        ("PAR1", "is not a readable Parquet file"),
        ("", "is empty, expected a CSV file"),
        ({**UNIT, "features": []}, "f: 0 figures; expected some"),
        ([point(1, 2, "Tumor")], r"passed over 1 \(Tumor 1\); expected some: --class NAME takes another"),
    ],
)
def test_files_that_hold_no_figures(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / "f", content)


def test_a_zip_of_several_files_names_them(tmp_path: Path) -> None:
    (tmp_path / "f.gz").write_bytes(b"\x1f\x8bno gzip")
    with pytest.raises(DataError, match="cannot be unpacked"):
        read(tmp_path / "f.gz")
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        for name in ("a.geojson", "b.geojson"):
            archive.writestr(name, "[]")
    with pytest.raises(DataError, match=r"holds a.geojson, b.geojson; expected one GeoJSON file"):
        read(tmp_path / "f.zip")
