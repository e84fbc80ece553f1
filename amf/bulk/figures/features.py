"""QuPath's GeoJSON, of any version: each point is a figure, and each polygon no wider than a patch."""

import json
import math
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import shapely
from shapely.errors import ShapelyError

from amf.bulk.figures.given import GivenFigure, GivenFigures, Wanted, is_figure
from amf.errors import DataError

NOT_FIGURES = {"root", "tile", "tmacore"}
"""QuPath's object types that never are a mitotic figure, of any version and spelling."""

KINDS = {"annotation", "detection", "cell", *NOT_FIGURES}
"""All object types of QuPath."""

OTHER_CLASS_KEYS = ("class", "category", "type")
"""Where tools that are not QuPath put the class; QuPath itself put its object type into `type` once."""

NAME_KEYS = ("label", "name")
"""Where a class may stand, and anything else: only words of mitotic figures and their look-alikes count."""

CHILDREN = ("childObjects", "children")
"""Where tools that keep QuPath's hierarchy put an object's own objects."""


def read_features(path: Path, content: Any, wanted: Wanted) -> GivenFigures:
    """Read features: a FeatureCollection, an array or one feature.

    In the collection that is returned each figure is a feature of its own with an id of its own: parts of a
    MultiPoint, MultiPolygon or GeometryCollection, and children of other objects, too.

    Raises
    ------
    DataError : the JSON holds no features.
    """
    given = GivenFigures(collection=_collection(path, content))
    assert given.collection is not None
    # TIAToolbox counts from the corner of the whole canvas; no other tool writes this key.
    given.on_canvas = any(
        "class_value" in one for one in given.collection["features"] if isinstance(one, dict)
    )
    written: list[Any] = []
    ids: set[str] = set()
    for number, feature in enumerate(_flat(given.collection["features"]), start=1):
        name = f"{path} feature {number}"
        if not isinstance(feature, dict) or not isinstance(feature.get("properties") or {}, dict):
            given.add(GivenFigure(name, known={"id": None}, fault="is no GeoJSON feature"))
            continue
        properties = feature.get("properties") or {}
        of_class, kind = class_of(properties), _kind(feature, properties)
        if kind in NOT_FIGURES or not wanted.takes(of_class):
            given.passed_over[f"QuPath {kind}" if kind in NOT_FIGURES else of_class or "no class"] += 1
            written.append(_with_own_id(feature, ids, str(number)))
            continue
        for part, geometry in enumerate(_parts(feature.get("geometry"))):
            single = geometry is feature.get("geometry")
            own = feature if single else {**feature, "geometry": geometry}
            own = _with_own_id(own, ids, f"{number} {part}", keep=part == 0 and single)
            given.add(_figure(name, own, geometry, len(written), wanted), of_class)
            written.append(own)
    given.collection["features"] = written
    return given


def features_of(path: Path, content: Any) -> Iterator[Any]:
    """Every feature of a FeatureCollection, an array or one feature; children come behind their parents."""
    return _flat(_collection(path, content)["features"])


def _collection(path: Path, content: Any) -> dict[str, Any]:
    """A FeatureCollection around whatever holds features."""
    if isinstance(content, list):
        content = {"type": "FeatureCollection", "features": content}
    elif isinstance(content, dict) and content.get("type") == "Feature":
        content = {"type": "FeatureCollection", "features": [content]}
    if not isinstance(content, dict) or not isinstance(content.get("features"), list):
        found = ", ".join(content) if isinstance(content, dict) else type(content).__name__
        raise DataError(
            f"{path} is JSON with {found or 'nothing'}, expected GeoJSON features, or images and "
            "annotations as MIDOG and COCO have them"
        )
    if any(
        isinstance(feature, dict) and "bbox" in feature and "geometry" not in feature
        for feature in content["features"]
    ):
        raise DataError(
            f"{path} holds boxes without their images and categories, expected the data set's whole JSON"
        )
    return dict(content)


def _flat(features: list[Any]) -> Iterator[Any]:
    """Every feature, the children of each behind it and no longer inside it."""
    for feature in features:
        if not isinstance(feature, dict):
            yield feature
            continue
        properties = feature.get("properties")
        holders = [feature, properties] if isinstance(properties, dict) else [feature]
        children = [
            child
            for holder in holders
            for key in CHILDREN
            if isinstance(holder.get(key), list)
            for child in holder[key]
        ]
        if not children:
            yield feature
            continue
        alone = {key: value for key, value in feature.items() if key not in CHILDREN}
        if isinstance(properties, dict):
            alone["properties"] = {key: value for key, value in properties.items() if key not in CHILDREN}
        yield alone
        yield from _flat(children)


def class_of(properties: Mapping[str, Any]) -> str | None:
    """The name of an object's class, as QuPath, GeoPandas or TIAToolbox spells it; None without one."""
    found = properties.get("classification")
    if found is None:
        words = [properties.get(key) for key in OTHER_CLASS_KEYS]
        words += [word for key in NAME_KEYS if is_figure(str(word := properties.get(key))) is not None]
        found = next((word for word in words if isinstance(word, str) and plain(word) not in KINDS), None)
    if isinstance(found, str) and found.lstrip().startswith("{"):  # GeoPandas writes objects as text
        try:
            found = json.loads(found)
        except ValueError:
            return found
    if isinstance(found, Mapping):
        name = found.get("name")
        found = found.get("names") if name is None else name
    if isinstance(found, list):  # a derived class, part by part
        found = ": ".join(map(str, found))
    return str(found).strip() or None if found is not None else None


def _kind(feature: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """The object's type in lower case without signs: `tmacore` for `tma_core` and for `PathTMACoreObject`."""
    keys = ("objectType", "object_type", "type")
    kind = next((properties[key] for key in keys if isinstance(properties.get(key), str)), None)
    legacy = feature.get("id") if _is_type(feature.get("id")) else None
    return plain(str(kind or legacy or "annotation"))


def plain(kind: str) -> str:
    """QuPath's name of an object type or shape in lower case without signs, of any version."""
    return "".join(filter(str.isalnum, kind)).lower().removeprefix("path").removesuffix("object")


def _is_type(identity: object) -> bool:
    """Whether an id is the object's type, as QuPath wrote it before 0.3."""
    return isinstance(identity, str) and identity.startswith("Path") and identity.endswith("Object")


def _with_own_id(feature: dict[str, Any], ids: set[str], place: str, keep: bool = True) -> dict[str, Any]:
    """The feature with its id, or with one made of it and of its place where another has it already."""
    identity = feature.get("id")
    if not keep or identity is None or _is_type(identity) or str(identity) in ids:
        if identity is None and keep:
            return feature
        feature = {**feature, "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{identity} {place}"))}
    ids.add(str(feature["id"]))
    return feature


def _parts(geometry: Any) -> list[Any]:
    """The points and polygons of a geometry; itself where it has no parts."""
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind == "GeometryCollection" and isinstance(geometry.get("geometries"), list):
        return [part for single in geometry["geometries"] for part in _parts(single)] or [geometry]
    coordinates = geometry.get("coordinates") if isinstance(geometry, dict) else None
    if kind in ("MultiPoint", "MultiPolygon") and isinstance(coordinates, list) and coordinates:
        if len(coordinates) == 1 and kind == "MultiPolygon":
            return [geometry]
        return [{"type": str(kind).removeprefix("Multi"), "coordinates": part} for part in coordinates]
    return [geometry]


def _figure(name: str, feature: Mapping[str, Any], geometry: Any, place: int, wanted: Wanted) -> GivenFigure:
    known = {"id": str(feature["id"]) if feature.get("id") is not None else None}
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind not in ("Point", "Polygon", "MultiPolygon"):
        fault = f"has the geometry {kind or geometry!r}, expected Point, MultiPoint, Polygon or MultiPolygon"
        return GivenFigure(name, known=known, feature=place, fault=fault)
    try:
        x, y, fault = wanted.centre_of(shapely.geometry.shape(geometry))
        if not (math.isfinite(x) and math.isfinite(y)):
            fault = "has coordinates that are not finite"
    except (ShapelyError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        x, y, fault = 0.0, 0.0, f"has a damaged geometry: {error}"
    return GivenFigure(name, x, y, known, place, fault)
