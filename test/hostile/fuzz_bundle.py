"""Change valid bundles and score with them: each gives finite answers or is refused in one sentence.

    python -m test.hostile.fuzz_bundle [--cases 5000] [--first 0] [--folder build/fuzz]

Values of bundle.json, headers and values of weights are changed, and what covers them is signed anew as a
careful forger would, so that it is not the signature that refuses them. A case is made from its number, so
`--first N --cases 1` repeats it. It runs in this process, which may have 1 GB more than it begins with; a
case that fails stays in the folder; the last line is the count.
"""

import json
import math
import resource
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator

from amf.errors import BundleError
from amf.inference.predict import Predictor
from amf.model import bundle
from amf.model.backbones import BACKBONES
from amf.model.classifier import CLASSES, Classifier, HeadSpec
from amf.model.digest import FILE_NAME, file_digest
from amf.model.preprocess import ImageSpec
from amf.model.spec import MemberSpec, content_digest
from test.hostile.fuzz_job import NUMBERS, main_of, mutate, mutate_json, run_cases
from test.support.bundles import places, put

EXTRA_BYTES = 1 << 30
PAGES = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)

VIT = {"img_size": 28, "depth": 1, "embed_dim": 24, "num_heads": 2}
SEEDS: list[tuple[str, dict[str, Any], int, int, str]] = [
    ("compact", {"widths": [4, 4], "blocks": [1, 1]}, 16, 1, "float32"),
    ("compact", {"widths": [4, 4, 4], "blocks": [1, 1, 1]}, 64, 8, "bfloat16"),
    ("h-optimus-0", VIT, 28, 1, "float32"),
    ("virchow2", VIT, 28, 1, "bfloat16"),
]
"""Backbone, arguments, input px, views and type of the bundles to start from; each has two members."""

JUNK: list[Any] = [
    None, True, False, -1, 0, 1, 2, 3, 7, 64, 1023, 65535, 65536, 10**6, 10**30, 10**400, -(10**400), 0.5,
    -0.5, 1.5, 1e-300, 5e-324, 1e300, -1e300, math.nan, math.inf, -math.inf, "", "x", "1", "\0", "\ud800",
    "../x", "/etc/passwd", "a" * 5000, [], [1], [None], [0, 0, 0], [1, 1, 1], [[[]]], {}, {"a": 1},
    [10**400] * 3, "a.safetensors", "bundle.json", "hf-hub:timm/resnet18", "local-dir:/tmp",
]  # fmt: skip
WORDS = [*BACKBONES, "float32", "float16", "bfloat16", "bilinear", "bicubic", "cls", "cls+mean", "native"]
ARGUMENTS = [
    "img_size", "patch_size", "depth", "embed_dim", "num_heads", "mlp_ratio", "init_values", "reg_tokens",
    "class_token", "no_embed_class", "global_pool", "fc_norm", "pre_norm", "qkv_bias", "drop_path_rate",
    "dynamic_img_size", "dynamic_img_pad", "in_chans", "num_classes", "act_layer", "norm_layer", "mlp_layer",
    "block_fn", "weight_init", "fix_init", "pos_embed", "features_only", "out_indices", "checkpoint_path",
    "pretrained", "pretrained_cfg", "cache_dir", "scriptable", "exportable", "pruned", "widths", "blocks",
    "pool", "model_name", "surprise",
]  # fmt: skip


def write_seed(folder: Path, number: int) -> None:
    """A valid bundle of two small members."""
    backbone, arguments, side, views, dtype = SEEDS[number]
    torch.manual_seed(number)
    image = ImageSpec(80, side, "bilinear", (0.7, 0.5, 0.7), (0.2, 0.2, 0.2))
    head = HeadSpec(hidden=4)
    members = [
        (
            MemberSpec(backbone, arguments, head, image, views, "a.safetensors", "", dtype),
            Classifier(backbone, arguments, head).state_dict(),
        )
        for _ in range(2)
    ]
    values = {"temperature": 1.0, "bias": 0.0, "threshold": 0.5}
    bundle.write(folder, members, name="seed", fitted_on="nothing", provenance={"a": {"b": 1}}, **values)  # type: ignore[arg-type]


def write_case(folder: Path, case: int, seeds: list[Path]) -> None:
    """One in four changes weights, one in twelve the bytes of bundle.json, the others its values."""
    generator = np.random.default_rng([2026, case])
    shutil.copytree(seeds[generator.integers(len(seeds))], folder)
    path = folder / FILE_NAME
    content = json.loads(path.read_text())
    if case % 4 == 0:
        weights = folder / content["members"][0]["weights"]
        weights.write_bytes(changed_weights(weights.read_bytes(), generator))
        content["members"][0]["sha256"] = file_digest(weights)
    elif case % 12 == 1:
        path.write_bytes(mutate_json(path.read_text(), generator))
        return
    else:
        for _ in range(int(generator.geometric(0.7))):
            change(content, generator)
    signed = {key: value for key, value in content.items() if key not in ("format_version", "sha256")}
    content["sha256"] = content_digest(signed)
    path.write_text(json.dumps(content))


def change(content: dict[str, Any], generator: Generator) -> None:
    """Put another value somewhere, or take one away, or add an argument."""
    everywhere = [place for place in places(content) if place[0] not in ("format_version", "sha256")]
    place = everywhere[generator.integers(len(everywhere))]
    kind = generator.random()
    if kind < 0.2 and (arguments := arguments_of(content, generator)) is not None:
        arguments[ARGUMENTS[generator.integers(len(ARGUMENTS))]] = value(content, generator)
    elif kind < 0.26:
        del at(content, place[:-1])[place[-1]]
    elif kind < 0.6:
        put(content, place, nearby(at(content, place), generator))
    else:
        put(content, place, value(content, generator))


def at(content: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        content = content[key]
    return content


def nearby(value: Any, generator: Generator) -> Any:
    """A value of the same kind: half as large, one more, another case, one fewer."""
    if isinstance(value, int):
        return value + int(generator.integers(-2, 3))
    if isinstance(value, float):
        return value * float(generator.choice([0.5, 0.9, 1.1, 2, -1]))
    if isinstance(value, str):
        return value[: int(generator.integers(len(value) + 1))] + str(generator.choice(["", "x", " ", "é"]))
    if isinstance(value, list):
        return value[::-1] if generator.integers(2) else value[1:]
    return value


def arguments_of(content: Mapping[str, Any], generator: Generator) -> dict[str, Any] | None:
    try:
        arguments = content["members"][generator.integers(len(content["members"]))]["arguments"]
    except (LookupError, TypeError, ValueError):
        return None
    return arguments if isinstance(arguments, dict) else None


def value(content: Any, generator: Generator) -> Any:
    """Junk, a small number, a word that stands for something, or what stands elsewhere in the bundle."""
    kind = generator.random()
    if kind < 0.55:
        return JUNK[generator.integers(len(JUNK))]
    if kind < 0.7:
        return int(generator.integers(0, 300))
    if kind < 0.85:
        return WORDS[generator.integers(len(WORDS))]
    everywhere = list(places(content))
    return json.loads(json.dumps(at(content, everywhere[generator.integers(len(everywhere))])))


def changed_weights(data: bytes, generator: Generator) -> bytes:
    """Another header, of its right length or not, or other bytes anywhere."""
    size = int.from_bytes(data[:8], "little")
    header, tensors = data[8 : 8 + size], data[8 + size :]
    kind = generator.random()
    if kind < 0.15:
        return mutate(data, generator)
    if kind < 0.35:
        values = bytearray(tensors)
        for _ in range(int(generator.integers(1, 4))):
            values[generator.integers(len(values))] ^= 1 << int(generator.integers(8))
        return data[: 8 + size] + bytes(values)
    if kind < 0.4:
        return int(NUMBERS[generator.integers(len(NUMBERS))]).to_bytes(8, "little") + header + tensors
    if kind < 0.6:
        header = mutate_json(header.decode(), generator)
    else:
        content = json.loads(header)
        everywhere = list(places(content))
        put(content, everywhere[generator.integers(len(everywhere))], value(content, generator))
        header = json.dumps(content).encode()
    return len(header).to_bytes(8, "little") + header + tensors


def run_case(folder: Path) -> str:
    """Load, score, and describe; AssertionError where that breaks a promise."""
    try:
        predictions, message = Predictor(bundle.load(folder), "cpu").predict(PAGES), ""
    except BundleError as error:
        predictions, message = [], str(error)
    if message:
        assert "\n" not in message, "a message of two lines"
        assert len(message) <= 1000
        assert "bundle" in message or ".safetensors" in message, message
        return "refused"
    assert len(predictions) == len(PAGES)
    for prediction in predictions:
        assert type(prediction.confidence) is float
        assert 0 <= prediction.confidence <= 1
        assert prediction.label in CLASSES
    return "scored"


def run(first: int, count: int, folder: Path) -> dict[str, object]:
    """Run the bundles first to first + count - 1 and count how they end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    seeds = [folder / f"seed-{number}" for number in range(len(SEEDS))]
    for number, seed in enumerate(seeds):
        write_seed(seed, number)
        assert run_case(seed) == "scored"  # which also imports what a case would otherwise pay for
    (used,) = [
        int(line.split()[1])
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmSize:")
    ]
    resource.setrlimit(resource.RLIMIT_AS, ((used << 10) + EXTRA_BYTES,) * 2)
    return run_cases(
        range(first, first + count),
        folder,
        lambda case_folder, case: write_case(case_folder, case, seeds),
        run_case,
    )


if __name__ == "__main__":
    raise SystemExit(main_of(run, 5000, __doc__.splitlines()[0]))
