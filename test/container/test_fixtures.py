"""The drawn jobs: what the platform would give, and the same in both formats."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from PIL import Image

from amf.inference.job import OUTPUT_NAME, run
from test.container import draw_fixtures
from test.container.check_output import differences, faults_of_format

FOLDER = Path(__file__).parents[1] / "input"
JOBS = {  # job -> the keys that its inputs.json describes the socket under
    "tiff": ["interface"],
    "mha": ["interface"],
    "socket": ["socket"],
    "both": ["socket", "interface"],
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    draw_fixtures.write_jobs(folder)
    return folder


def only_image(job):
    [file] = (FOLDER / job / "images" / draw_fixtures.SLUG).iterdir()
    return file


def test_drawing_again_gives_the_same_bytes(drawn):
    ours = {file.relative_to(FOLDER): file.read_bytes() for file in FOLDER.rglob("*") if file.is_file()}
    again = {file.relative_to(drawn): file.read_bytes() for file in drawn.rglob("*") if file.is_file()}

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


def test_tiff_is_what_the_platform_gives():
    with Image.open(only_image("tiff")) as image:
        assert (image.n_frames, image.size, image.mode) == (16, (128, 128), "RGB")
        for page in range(image.n_frames):
            image.seek(page)
            assert image.info["compression"] == "tiff_adobe_deflate"
            assert image.tag_v2[258] == (8, 8, 8)
            assert image.info["dpi"] == (102351, 102351)


def test_mha_is_what_the_platform_gives():
    image = SimpleITK.ReadImage(str(only_image("mha")))

    assert image.GetSize() == (128, 128, 16)
    assert image.GetPixelID() == SimpleITK.sitkVectorUInt8
    assert image.GetNumberOfComponentsPerPixel() == 3
    assert image.GetSpacing()[:2] == pytest.approx((0.000248, 0.000248))


def test_both_jobs_hold_the_same_pages():
    with Image.open(only_image("tiff")) as image:
        tiff = []
        for page in range(image.n_frames):
            image.seek(page)
            tiff.append(np.array(image))
    mha = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(only_image("mha"))))

    np.testing.assert_array_equal(np.stack(tiff), mha)


def test_each_page_has_a_dark_figure_in_its_centre():
    """Chromatin in division is by far the darkest thing of a page, and its cell fills the middle."""
    for page in SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(only_image("mha")))):
        brightness = page.mean(axis=-1)

        assert (brightness[44:84, 44:84] < 75).sum() > 80
        assert np.median(brightness[24:]) > 110  # the tissue round it is pale


@pytest.mark.parametrize("job", JOBS)
def test_the_bundle_gives_the_expected_answer(job, tmp_path):
    expected = json.loads((FOLDER.parent / "expected.json").read_text())
    run(FOLDER / job, tmp_path, FOLDER.parent.parent / "model", "cpu")
    answer = json.loads((tmp_path / OUTPUT_NAME).read_text())

    assert faults_of_format(answer, pages=16) == []
    assert differences(answer, expected) == []
