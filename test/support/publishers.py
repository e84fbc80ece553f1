"""Drawn figures in the layout of each publisher, as the data repositories serve them."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from test.support.loopback import Answer, Server

REGION_PX = (640, 512)  # width, height
BREAST = ("human breast cancer", "Hamammatsu XR", "UMC Utrecht", "Human")  # the publisher's own spelling
LUNG = ("canine lung cancer", "3D Histech", "VMU Vienna", "Canine")
LYMPHOMA = ("canine lymphoma", "3D Histech", "VMU Vienna", "Canine")
REGIONS = {"001": BREAST, "002": BREAST, "201": LUNG, "202": LUNG, "301": LYMPHOMA, "302": LYMPHOMA}
FIGURES_A_REGION = 12
VOTES = [(True, True, True), (False, False, False), (False, False, True), (True, False, True)]

MIDOG25, LUNG_MITO, OMG_OCTO = 16044804, 15854453, 16107743
AMI_BR, MIDOGPP = "DeepMicroscopy/AMi-Br", "DeepMicroscopy/MIDOGpp"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
COLLECTION, ARTICLE = 6615571, 42


@dataclass
class Figure:
    """A figure in a region: its centre (px), votes of the experts, and the patch around it."""

    x: int
    y: int
    votes: tuple[bool, ...]
    patch: np.ndarray

    @property
    def atypical(self) -> bool:
        return sum(self.votes) * 2 > len(self.votes)


def draw_region(seed: int, stain: float = 0.0) -> tuple[np.ndarray, list[Figure]]:
    """(H, W, 3) uint8 and its figures: a dark plate on pink, an AMF with a fainter one beside it."""
    generator = np.random.default_rng(seed)
    width, height = REGION_PX
    ink = np.zeros((height, width))
    drawn = []
    for number in range(FIGURES_A_REGION):
        x, y = 80 + 160 * (number % 4), 80 + 160 * (number // 4)
        x, y = x + int(generator.integers(-8, 9)), y + int(generator.integers(-8, 9))
        votes = VOTES[number % 4]
        dx, dy = np.arange(width) - x, np.arange(height)[:, None] - y
        ink += np.exp(-((dx / 6) ** 2) - (dy / 16) ** 2)
        if sum(votes) >= 2:
            ink += 0.7 * np.exp(-(((dx - 18) / 6) ** 2) - ((dy - 6) / 16) ** 2)
        drawn.append((x, y, votes))
    density = 0.2 + 3 * ink[..., None] * (np.array([0.15, 0.45, 0.2]) + stain)
    density += 0.05 * generator.random((height, width, 3))
    pixels = (255 * np.exp(-density)).astype(np.uint8)
    padded = np.pad(pixels, ((64, 64), (64, 64), (0, 0)))  # a window is black outside its region
    return pixels, [Figure(x, y, v, padded[y : y + 128, x : x + 128]) for x, y, v in drawn]


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, compress_level=1)
    return buffer.getvalue()


def csv(header: str, rows: Sequence[str]) -> bytes:
    return "\n".join([header, *rows, ""]).encode()


def zipped(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def answer_json(server: Server, path: str, content: object) -> None:
    server.routes[f"/{path}"] = Answer(json.dumps(content).encode())


def publish_zenodo(server: Server, record: int, title: str, files: Mapping[str, bytes]) -> None:
    """A record as Zenodo's API gives it, and its files."""
    entries = []
    for key, content in files.items():
        path = f"zenodo.org/api/records/{record}/files/{key}/content"
        server.routes[f"/{path}"] = Answer(content)
        checksum = f"md5:{hashlib.md5(content).hexdigest()}"
        links = {"self": f"https://{path}"}
        entries.append({"key": key, "size": len(content), "checksum": checksum, "links": links})
    metadata = {"title": title, "license": {"id": "cc-by-4.0"}}
    content = {"id": record, "doi": f"10.5281/zenodo.{record}", "metadata": metadata, "files": entries}
    answer_json(server, f"zenodo.org/api/records/{record}", content)


def publish_github(server: Server, repository: str, files: Mapping[str, bytes], licence: str | None) -> None:
    """A repository as GitHub's API gives it, and its archive."""
    api = f"api.github.com/repos/{repository}"
    blobs = [
        {"path": path, "type": "blob", "sha": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}
        for path, content in files.items()
    ]
    answer_json(server, api, {"license": {"spdx_id": licence} if licence else None})
    answer_json(server, f"{api}/commits/HEAD", {"sha": COMMIT})
    answer_json(server, f"{api}/git/trees/{COMMIT}", {"tree": blobs, "truncated": False})
    folder = f"{repository.split('/')[1]}-{COMMIT}"
    archive = zipped({f"{folder}/{path}": content for path, content in files.items()})
    server.routes[f"/codeload.github.com/{repository}/zip/{COMMIT}"] = Answer(archive)


def publish_figshare(server: Server, title: str, files: Mapping[str, bytes]) -> None:
    """A collection of one article as figshare's API gives it, and its files."""
    api, entries = "api.figshare.com/v2", []
    for number, (name, content) in enumerate(files.items()):
        server.routes[f"/ndownloader.figshare.com/files/{number}"] = Answer(content)
        md5 = {"computed_md5": hashlib.md5(content).hexdigest(), "supplied_md5": ""}
        url = f"https://ndownloader.figshare.com/files/{number}"
        entries.append({"id": number, "name": name, "size": len(content), "download_url": url, **md5})
    collection = {"title": title, "doi": f"10.6084/m9.figshare.c.{COLLECTION}"}
    answer_json(server, f"{api}/collections/{COLLECTION}", collection)
    answer_json(server, f"{api}/collections/{COLLECTION}/articles", [{"id": ARTICLE}])
    answer_json(server, f"{api}/articles/{ARTICLE}", {"license": {"name": "CC0"}})
    answer_json(server, f"{api}/articles/{ARTICLE}/files", entries)


def publish_all(server: Server) -> None:
    """Every data set that `amf fetch` knows; they share figures as the real ones do."""
    regions = {name: draw_region(int(name), 0.02 * n) for n, name in enumerate(REGIONS)}

    rows, patches = [], {}
    for name, traits in REGIONS.items():
        for figure in regions[name][1]:
            image = f"{len(rows) + 1}.png"
            votes = ["AMF" if vote else "NMF" for vote in figure.votes]
            majority = "AMF" if figure.atypical else "NMF"
            third = "" if votes[0] == votes[1] else votes[2]
            cells = [image, f"{name}.tiff", figure.x, figure.y, *traits, *votes[:2], third, majority]
            rows.append(",".join(map(str, cells)))
            patches[f"MIDOG25_Binary_Classification_Train_Set/{image}"] = encoded(figure.patch)
    header = (
        "image_id,filename,coordinateX,coordinateY,Tumor,Scanner,Origin,Species,"
        "expert1,expert2,expert3,majority"
    )
    names = ("MIDOG25_Atypical_Classification_Train_Set.csv", "MIDOG25_Binary_Classification_Train_Set.zip")
    published = dict(zip(names, (csv(header, rows), zipped(patches)), strict=True))
    publish_zenodo(server, MIDOG25, "MIDOG 2025 Atypical Training Set", published)

    annotations: list[dict[str, object]] = []
    for number, name in enumerate(REGIONS):
        for figure in regions[name][1]:
            box = [figure.x - 25, figure.y - 25, figure.x + 25, figure.y + 25]
            annotations.append({"id": len(annotations), "image_id": number, "category_id": 1, "bbox": box})
        look_alike = {"image_id": number, "category_id": 2, "bbox": [0, 0, 50, 50]}
        annotations.append({"id": len(annotations), **look_alike})
    images = [{"id": number, "file_name": f"{name}.tiff"} for number, name in enumerate(REGIONS)]
    categories = [{"id": 1, "name": "mitotic figure"}, {"id": 2, "name": "hard negative"}]
    database = {"images": images, "annotations": annotations, "categories": categories}
    publish_github(server, MIDOGPP, {"databases/MIDOG++.json": json.dumps(database).encode()}, "MIT")
    publish_figshare(
        server, "MIDOG++", {f"{name}.tiff": encoded(regions[name][0], "TIFF") for name in REGIONS}
    )

    rows, files = [], {"README.md": b"AMi-Br\n"}
    for slide, source, figures in [
        ("001.tiff", "MIDOG21", regions["001"][1]),
        ("002.tiff", "MIDOG21", regions["002"][1]),
        ("17.svs", "TUPAC16", draw_region(17, 0.1)[1]),
        ("18.svs", "TUPAC16", draw_region(18, 0.1)[1]),
    ]:
        for figure in figures:
            votes = [str(vote) for vote in figure.votes]
            labels = ["AMF segregation" if vote else "NMF metaphase" for vote in figure.votes[:2]]
            number = len(rows)
            place = [number, slide, source, number, figure.x, figure.y]
            rows.append(",".join(map(str, [*place, *labels, *votes, figure.atypical])))
            files[f"patches/{source}_{number}.png"] = encoded(figure.patch)
    header = (
        ",slide,dataset,uid,x,y,expert1_label,expert2_label,"
        "expert1_atypical,expert2_atypical,expert3_atypical,majority_atypical"
    )
    files["AMI-BR.csv"] = csv(header, rows)
    publish_github(server, AMI_BR, files, None)

    rows, members = [], {}
    for slide in (31, 32):
        for number, figure in enumerate(draw_region(slide, 0.15)[1]):
            name = f"case{slide}_{number}.png"
            rows.append(f"{name},{'atypical' if figure.atypical else 'typical'},case{slide}")
            members[f"LUNG-MITO/crops/{name}"] = encoded(figure.patch)
    members["LUNG-MITO/annotations.csv"] = csv("file,class,case", rows)
    published = {"LUNG-MITO.zip": zipped(members)}
    published["stMIDOG++.zip"] = zipped({"stMIDOG++/readme.txt": b"counts\n"})
    publish_zenodo(server, LUNG_MITO, "stMIDOG++ and LUNG-MITO", published)

    rows, members = [], {}
    for number, figure in enumerate(draw_region(41, -0.05)[1]):
        name = f"slide41_{number}.png"
        rows.append(f"{name},slide41,{'AMF' if figure.atypical else 'NMF'}")
        members[f"OMG-Octo/{name}"] = encoded(figure.patch)
    published = {"OMG-Octo.csv": csv("image_id,filename,majority", rows), "OMG-Octo.zip": zipped(members)}
    publish_zenodo(server, OMG_OCTO, "OMG-Octo Atypical", published)


def publish_hub(server: Server, hub: str, checkpoint: str, weights: bytes, token: str | None = None) -> None:
    """A model as the hub serves it: large files behind a redirect, all behind a gate if it has a token."""
    large = f"/large/{hashlib.sha256(weights).hexdigest()}"

    def gated(answer: Answer) -> Callable[[Mapping[str, str]], Answer]:
        def given(headers: Mapping[str, str]) -> Answer:
            if token is not None and headers.get("Authorization") != f"Bearer {token}":
                message = "Access to model is restricted and you are not in the authorized list."
                return Answer(b"", 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": message})
            return answer

        return given

    server.routes[f"/api/models/{hub}/auth-check"] = gated(Answer())
    redirect = {
        "Location": server.url.replace("127.0.0.1", "localhost") + large,  # another host, as the hub's is
        "X-Repo-Commit": COMMIT,
        "X-Linked-Etag": f'"{hashlib.sha256(weights).hexdigest()}"',
        "X-Linked-Size": str(len(weights)),
    }
    server.routes[f"/{hub}/resolve/main/{checkpoint}"] = gated(Answer(b"", 302, redirect))
    server.routes[f"/{hub}/resolve/{COMMIT}/{checkpoint}"] = gated(Answer(b"", 302, redirect))
    server.routes[large] = Answer(weights)
