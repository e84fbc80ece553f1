"""The vision transformers of H-optimus-0, H-optimus-1, Virchow2 and UNI2-h, written to be served.

Same layers under the same names as timm's, which training uses: importing timm takes longer than reading a
gigabyte of weights, and these networks score on a CPU a fifth faster (docs/performance.md).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUP_PAGES = 2
"""Images that go through the CPU together: their activations stay in its caches."""

SHAPES: dict[str, dict[str, Any]] = {
    "vit_giant_patch14_reg4_dinov2": {
        "patch_size": 14, "embed_dim": 1536, "depth": 40, "num_heads": 24, "mlp_ratio": 2.66667 * 2,
        "init_values": 1e-5, "reg_tokens": 4, "no_embed_class": True,
        "mlp_layer": "SwiGLUPacked", "act_layer": "SiLU",
    },
    "vit_huge_patch14_224": {"patch_size": 14, "embed_dim": 1280, "depth": 32, "num_heads": 16},
    "vit_giant_patch14_224": {"patch_size": 14, "embed_dim": 1408, "depth": 40, "num_heads": 16},
}  # fmt: skip
"""What timm's names stand for, as far as the networks here need it."""

COUNTS = ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "reg_tokens")
DEFAULTS = {"no_embed_class": False, "dynamic_img_size": False, "global_pool": "token"}


def shape_of(model_name: str, pool: str, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments of Vit that timm's name and options come to; None for any network that Vit is not."""
    if model_name not in SHAPES or pool not in ("cls", "cls+mean"):
        return None
    shape = {**DEFAULTS, **SHAPES[model_name], **options}
    layers = shape.pop("mlp_layer", None), shape.pop("act_layer", None), shape.pop("global_pool")
    if layers not in (("SwiGLUPacked", "SiLU", "token"), ("SwiGLUPacked", "SiLU", "")):
        return None
    if shape.keys() != {*COUNTS, "mlp_ratio", "init_values", "no_embed_class", "dynamic_img_size"}:
        return None
    if not all(shape[name] for name in ("reg_tokens", "init_values")):
        return None  # timm leaves these layers out
    return shape


class Vit(nn.Module):
    """Patches of an image, a class token and registers through blocks of attention and SwiGLU.

    Parameters
    ----------
    img_size, patch_size : px. embed_dim : width. depth : blocks. num_heads : of each block's attention.
    mlp_ratio : width of a block's first linear layer, gate and value together, over `embed_dim`.
    init_values : of the layer scales. reg_tokens : registers.
    no_embed_class : positions are of the patches alone, else of class token and registers too.
    dynamic_img_size : images of another size are taken, their positions interpolated.
    """

    def __init__(
        self,
        img_size: int,
        patch_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        init_values: float,
        reg_tokens: int,
        no_embed_class: bool,
        dynamic_img_size: bool,
    ) -> None:
        super().__init__()
        self.grid = img_size // patch_size
        self.patch_size, self.num_features, self.num_prefix_tokens = patch_size, embed_dim, 1 + reg_tokens
        self.no_embed_class, self.dynamic_img_size = no_embed_class, dynamic_img_size
        positions = self.grid**2 + (0 if no_embed_class else self.num_prefix_tokens)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.reg_token = nn.Parameter(torch.zeros(1, reg_tokens, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, positions, embed_dim))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, embed_dim, patch_size, patch_size)})
        hidden = int(embed_dim * mlp_ratio)
        blocks = [Block(embed_dim, num_heads, hidden, init_values) for _ in range(depth)]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) normalised → tokens (B, 1 + registers + patches, embed_dim): class token first."""
        parts = x.split(GROUP_PAGES) if x.device.type == "cpu" else [x]
        return torch.cat([self.norm(self.blocks(self._tokens(part))) for part in parts])

    def _tokens(self, x: Tensor) -> Tensor:
        """Embed the patches and put class token and registers before them, with their positions."""
        height, width = (side // self.patch_size for side in x.shape[-2:])
        if height * self.patch_size != x.shape[-2] or width * self.patch_size != x.shape[-1]:
            raise ValueError(f"its sides are no multiples of {self.patch_size} px")
        if (height, width) != (self.grid, self.grid) and not self.dynamic_img_size:
            raise ValueError(f"expected {self.grid * self.patch_size} px a side")
        patches = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)  # (B, patches, embed_dim)
        first = torch.cat([self.cls_token, self.reg_token], 1).expand(len(x), -1, -1)
        positions = self._positions(height, width)
        if self.no_embed_class:
            return torch.cat([first, patches + positions], 1)
        return torch.cat([first, patches], 1) + positions

    def _positions(self, height: int, width: int) -> Tensor:
        if (height, width) == (self.grid, self.grid):
            return self.pos_embed
        prefix = 0 if self.no_embed_class else self.num_prefix_tokens
        grid = self.pos_embed[:, prefix:].float().unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        grid = functional.interpolate(grid, (height, width), mode="bicubic", antialias=True)
        grid = grid.flatten(2).transpose(1, 2).to(self.pos_embed.dtype)  # (1, patches, embed_dim)
        return torch.cat([self.pos_embed[:, :prefix], grid], 1)


class Block(nn.Module):
    """Attention, then SwiGLU, each after a norm and scaled channel by channel as it is added."""

    def __init__(self, width: int, heads: int, hidden: int, init_values: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads), SwiGlu(width, hidden)
        self.ls1, self.ls2 = LayerScale(width, init_values), LayerScale(width, init_values)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, width) → (B, tokens, width)."""
        x = torch.addcmul(x, self.attn(self.norm1(x)), self.ls1.gamma)
        return torch.addcmul(x, self.mlp(self.norm2(x)), self.ls2.gamma)


class LayerScale(nn.Module):
    """A factor a channel."""

    def __init__(self, width: int, init_values: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), init_values))


class Attention(nn.Module):
    """Self-attention of several heads; queries, keys and values from one linear layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, width) → (B, tokens, width)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (B, tokens, 3, heads, width / heads)
        if x.device.type == "cpu":  # page by page in three steps: two fifths off the fused kernel's time
            attended = torch.stack([_attended(page) for page in qkv])  # (B, tokens, heads, width / heads)
        else:
            query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            attended = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        return self.proj(attended.flatten(2))


def _attended(qkv: Tensor) -> Tensor:
    """Attention of one image: (tokens, 3, heads, D) → (tokens, heads, D)."""
    query, key, value = qkv.permute(1, 2, 0, 3).unbind(0)  # (heads, tokens, D)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(1, 2)  # (heads, tokens, tokens)
    return (scores.softmax(-1) @ value).transpose(0, 1)


class SwiGlu(nn.Module):
    """A gated MLP (Shazeer, 2020): SiLU of one half of the hidden units times the other half."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden // 2, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, width) → (B, tokens, width)."""
        gate, value = self.fc1(x).chunk(2, -1)
        return self.fc2(functional.silu(gate) * value)
