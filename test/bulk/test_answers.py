"""What `amf predict` and `amf slide` wrote is read back, also after QuPath and GeoPandas have changed it."""

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from amf.bulk.answers import Answers, read_answers
from amf.bulk.geojson import BUNDLE, CLASSIFICATION, IMAGE, MEASUREMENT, THRESHOLD
from amf.errors import DataError
from test.support.fixtures import Make

CONFIDENCES = [0.19, 0.26, 0.3, 0.99]
NO_BUNDLE = Path("no bundle is needed")


def features(threshold: float | None = 0.2) -> list[dict[str, Any]]:
    """Four figures of one slide as `amf slide` writes them; the model calls the first one normal."""
    named = {} if threshold is None else {THRESHOLD: repr(threshold)}
    found = []
    for number, confidence in enumerate(CONFIDENCES):
        image = f"s.tif#x={75 + number},y=81,mpp=0.25"
        properties = {
            "objectType": "detection",
            "classification": CLASSIFICATION["atypical" if confidence >= 0.2 else "normal"],
            "measurements": {MEASUREMENT: confidence},
            "metadata": {BUNDLE: "0123 members=1", IMAGE: image, **named},
        }
        geometry = {"type": "Point", "coordinates": [75.0 + number, 81.0]}
        feature = {"type": "Feature", "geometry": geometry, "properties": properties}
        found.append({**feature, "id": f"figure {number}"})
    return found


def read(tmp_path: Path, content: Any, model: Path = NO_BUNDLE) -> Answers:
    path = tmp_path / "answers.geojson"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return read_answers(path, model)


def votes(answers: Answers) -> list[int | None]:
    vote = answers.figures["vote"]
    return vote.astype(object).where(vote.notna(), None).tolist()


@pytest.mark.parametrize(
    ("given", "vote"),
    [
        (CLASSIFICATION["atypical"], None),  # untouched
        ({"name": "Normal mitotic figure"}, 0),
        ({"name": "NMF"}, 0),
        ('{"name": "Normal mitotic figure"}', 0),  # GeoPandas
        ({"name": "Atypical mitotic figure"}, None),  # the model's own
        (None, None),
        ({"name": "Atypical mitotic figure: Positive"}, None),
        ({"names": ["Normal mitotic figure", "checked"]}, None),
        ({"name": "Mitosis"}, None),
    ],
)
def test_a_corrected_class_is_a_vote_and_moves_no_threshold(tmp_path: Path, given: Any, vote: Any) -> None:
    changed = features()
    changed[3]["properties"]["classification"] = given
    answers = read(tmp_path, changed)
    assert answers.threshold == 0.2
    assert answers.figures["predicted"].tolist() == [0, 1, 1, 1]
    assert votes(answers) == [None, None, None, vote]
    assert bool(answers.notes) == (vote is not None)


@pytest.mark.parametrize("name", ["Non-mitotic", "Tumor", "Ki67: Positive"])
def test_another_class_is_left_out_and_counted(tmp_path: Path, name: str) -> None:
    changed = features()
    changed[3]["properties"]["classification"] = {"name": name}
    answers = read(tmp_path, changed)
    assert len(answers.figures) == 3
    assert answers.notes == [f"1 figures have another class and are left out ({name} 1)."]


def as_list(feature: dict[str, Any]) -> dict[str, Any]:
    """Measurements as QuPath wrote them before 0.4, and as GeoPandas makes text of them."""
    own = feature["properties"]
    listed = [{"name": key, "value": value} for key, value in own["measurements"].items()]
    text = {"measurements": json.dumps(listed), "metadata": json.dumps(own["metadata"])}
    return {**feature, "properties": {**own, **text}}


COLLECTION = {"type": "FeatureCollection", "features": features()}
PARENT = {"type": "Feature", "geometry": None, "properties": {"childObjects": features()}}
FORMS: dict[str, Any] = {
    "collection": COLLECTION,
    "array": features(),
    "sorted": json.dumps(COLLECTION, sort_keys=True).encode(),
    "text": {**COLLECTION, "features": [as_list(feature) for feature in features()]},
    "child": [PARENT],
    "gzip": gzip.compress(json.dumps(COLLECTION).encode()),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_geojson(tmp_path: Path, form: str) -> None:
    answers = read(tmp_path, FORMS[form])
    assert answers.figures["confidence"].tolist() == CONFIDENCES
    assert answers.figures["x"].tolist() == [75, 76, 77, 78]
    unscored = f"1 features of {tmp_path / 'answers.geojson'} were never scored."
    assert answers.notes == ([unscored] if form == "child" else [])


def test_a_single_feature_and_two_at_one_place(tmp_path: Path) -> None:
    assert read(tmp_path, features()[2]).figures["id"].tolist() == ["figure 2"]
    twice = read(tmp_path, features() + features()).figures
    assert len(twice) == 8
    assert not twice.duplicated(["image", "id"]).any()


def test_threshold_of_the_bundle_where_none_is_named(tmp_path: Path, make_bundle: Make) -> None:
    answers = read(tmp_path, features(threshold=None), make_bundle(threshold=0.28))
    assert answers.threshold == 0.28
    assert answers.figures["predicted"].tolist() == [0, 0, 1, 1]
    assert "names no threshold: that of" in answers.notes[0]
    assert answers.notes[1] == "The answers are of another bundle: name it with --model."


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_tables(tmp_path: Path, suffix: str) -> None:
    table = pd.DataFrame({"image": list("abcd"), "class": ["normal", "AMF", "0", None]})
    table = table.assign(confidence=CONFIDENCES, threshold=0.2)
    path = tmp_path / f"answers{suffix}"
    if suffix == ".json":
        path.write_text(table.to_json(orient="records"))
    else:
        table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    assert votes(read_answers(path, NO_BUNDLE)) == [None, None, 0, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measurements": {MEASUREMENT: 1.5}}, "a confidence that is no number from 0 to 1"),
        ({"measurements": {MEASUREMENT: "much"}}, "is no GeoJSON that `amf slide` wrote"),
        ({"metadata": {IMAGE: "s.tif", THRESHOLD: "0.2"}}, "is no GeoJSON that `amf slide` wrote"),
        ({"metadata": {IMAGE: "s.tif#x=1,y=1", THRESHOLD: "0.4"}}, "names 2 thresholds"),
    ],
)
def test_damaged_answers_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    changed = features()
    changed[3]["properties"] |= change
    with pytest.raises(DataError, match=message):
        read(tmp_path, changed)


def test_nothing_to_look_at_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no figures"):
        read(tmp_path, {"type": "FeatureCollection", "features": []})
