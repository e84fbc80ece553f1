"""The compact backbone: a small pre-activation residual CNN, trained from random weights.

Identity mappings in residual networks (He et al., ECCV 2016), at the size that a few thousand
64 px patches can fill.
"""

from collections.abc import Sequence

from torch import Tensor, nn


class PreActivationBlock(nn.Module):
    """BN → ReLU → 3 x 3 convolution, twice, around a shortcut; a projection where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.activation = nn.ReLU(inplace=True)
        self.project: nn.Module | None = None
        if stride != 1 or channels_in != channels_out:
            self.project = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) → (B, C_out, H / stride, W / stride)."""
        activated = self.activation(self.norm1(x))
        shortcut = x if self.project is None else self.project(activated)
        out = self.conv1(activated)
        return shortcut + self.conv2(self.activation(self.norm2(out)))


class Compact(nn.Module):
    """Stem, one stage of residual blocks per width (halving the resolution between stages), average pooling.

    The stem halves the resolution at once, with more channels than the 12 values it reads per position, so
    that nothing is lost and the costly full-resolution stage falls away.
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 128, 256), blocks: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 5, 2, padding=2, bias=False)
        stages: list[nn.Module] = []
        channels = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(PreActivationBlock(channels, width, stride))
                channels = width
        self.blocks = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(channels)
        self.embedding_size = channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) normalised → (B, widths[-1]) embedding."""
        x = self.blocks(self.stem(x))  # (B, widths[-1], S / 16, S / 16)
        return self.norm(x).relu().mean((2, 3))  # (B, widths[-1])
