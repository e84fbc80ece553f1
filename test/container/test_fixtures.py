"""The drawn jobs: what the platform would give, and the same in both formats."""

import json

import numpy as np
import pytest
import SimpleITK
from PIL import Image

from amf.inference.job import OUTPUT_NAME, run
from test.container import draw_fixtures
from test.container.check_output import differences, faults_of_format
from test.support.paths import ROOT

FOLDER = ROOT / "test" / "input"
JOBS = {  # job -> the keys that its inputs.json describes the socket under
    "tiff": ["interface"],
    "mha": ["interface"],
    "socket": ["socket"],
    "both": ["socket", "interface"],
}


def only_image(job):
    [file] = (FOLDER / job / "images" / draw_fixtures.SLUG).iterdir()
    return file


def test_drawing_again_gives_the_same_bytes(tmp_path):
    draw_fixtures.write_jobs(tmp_path)
    ours, again = (
        {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for folder in (FOLDER, tmp_path)
    )
    assert len(ours) == 8
    assert ours == again


@pytest.mark.parametrize("job", JOBS)
def test_inputs_name_the_socket_and_the_folder_that_holds_one_image(job):
    [entry] = json.loads((FOLDER / job / "inputs.json").read_text())

    assert [key for key in ("socket", "interface") if key in entry] == JOBS[job]
    for key in JOBS[job]:
        assert entry[key]["slug"] == "stacked-histopathology-roi-cropouts"
        assert (FOLDER / job / entry[key]["relative_path"]) == only_image(job).parent
    assert entry["image"]["name"] != only_image(job).name


def test_both_formats_are_what_the_platform_gives_and_hold_the_same_pages():
    mha = SimpleITK.ReadImage(str(only_image("mha")))
    assert mha.GetSize() == (128, 128, 16)
    assert mha.GetPixelID() == SimpleITK.sitkVectorUInt8
    assert mha.GetNumberOfComponentsPerPixel() == 3
    assert mha.GetSpacing()[:2] == pytest.approx((0.000248, 0.000248))
    with Image.open(only_image("tiff")) as tiff:
        assert (tiff.n_frames, tiff.size, tiff.mode) == (16, (128, 128), "RGB")
        for page, expected in enumerate(SimpleITK.GetArrayFromImage(mha)):
            tiff.seek(page)
            assert tiff.info["compression"] == "tiff_adobe_deflate"
            assert tiff.tag_v2[258] == (8, 8, 8)
            assert tiff.info["dpi"] == (102351, 102351)
            np.testing.assert_array_equal(np.asarray(tiff), expected)


def test_the_bundle_gives_the_expected_answer(tmp_path):
    expected = json.loads((FOLDER.parent / "expected.json").read_text())
    run(FOLDER / "tiff", tmp_path, ROOT / "model", "cpu")
    answer = json.loads((tmp_path / OUTPUT_NAME).read_text())

    assert faults_of_format(answer, pages=16) == []
    assert differences(answer, expected) == []
