"""EfficientNet-Lite0, 1 and 2: inverted residual blocks with ReLU6 and without squeeze-and-excitation.

EfficientNet (Tan and Le, ICML 2019) scales depth and width together; the Lite variants (Google, 2020) leave
out what runs badly on small devices. Same layers in the same order as timm's `tf_efficientnet_lite*`, so that
published weights fit by position; written here because importing timm takes longer than a whole job.
"""

import math

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

STAGES = (
    # kernel, stride of its first block, expansion, channels, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
"""Lite0; wider and deeper variants scale channels and blocks, the latter not in the first and last stage."""

STEM_CHANNELS, EMBEDDING = 32, 1280


class ConvNorm(nn.Module):
    """Convolution, batch norm and, unless `linear`, ReLU6; padded as TensorFlow pads ("same").

    At stride 2 that is one row and column more at the bottom and right than at the top and left wherever the
    side is even. A convolution that pads all sides alike leaves out its last row and column there, so that it
    does the same from the other end: `fuse` turns the filters by half a turn, for images that are turned too.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        padding = kernel // 2 if stride == 1 else 0
        self.conv: nn.Module = nn.Conv2d(
            channels_in, channels_out, kernel, stride, padding, groups=groups, bias=False
        )
        self.norm: nn.Module = nn.BatchNorm2d(channels_out, eps=1e-3)
        self.activation: nn.Module = nn.Identity() if linear else nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) → (B, C_out, ceil(H / stride), ceil(W / stride))."""
        if self.stride > 1 and not self.is_fused:
            x = functional.pad(x, [*self._same(x.shape[3]), *self._same(x.shape[2])])
        out: Tensor = self.activation(self.norm(self.conv(x)))
        return out

    def _same(self, side: int) -> tuple[int, int]:
        total = max((math.ceil(side / self.stride) - 1) * self.stride + self.kernel - side, 0)
        return total // 2, total - total // 2

    def fuse(self) -> None:
        """Fold the norm into the convolution, tie the activation to it, turn the filters; in place.

        From then on it takes images turned by half a turn, in evaluation mode.
        """
        if isinstance(self.conv, nn.Conv2d) and isinstance(self.norm, nn.BatchNorm2d):
            conv = fuse_conv_bn_eval(self.conv, self.norm)
            conv.weight.data = conv.weight.data.flip(2, 3)
            conv.padding = (self.kernel // 2, self.kernel // 2)
            self.conv = nn.Sequential(conv, self.activation)
            self.norm = self.activation = nn.Identity()

    @property
    def is_fused(self) -> bool:
        """Whether `fuse` was called."""
        return isinstance(self.norm, nn.Identity)


class InvertedResidual(nn.Module):
    """1 x 1 expansion, a filter a channel, linear 1 x 1 projection; a shortcut where shapes match.

    At expansion 1 the first convolution falls away.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        layers = [ConvNorm(channels_in, inner, 1)] if expansion > 1 else []
        layers.append(ConvNorm(inner, inner, kernel, stride, groups=inner))
        layers.append(ConvNorm(inner, channels_out, 1, linear=True))
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) → (B, C_out, ceil(H / stride), ceil(W / stride))."""
        out: Tensor = self.layers(x)
        return out.add_(x) if self.shortcut else out


class EfficientNetLite(nn.Module):
    """Stem, seven stages of inverted residual blocks, a 1 x 1 convolution to 1,280 channels, average pooling.

    Parameters
    ----------
    width : factor of the stages' channels, rounded to multiples of 8; depth : of their blocks, rounded up.
    """

    def __init__(self, width: float = 1.0, depth: float = 1.0) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM_CHANNELS, 3, stride=2)
        blocks: list[nn.Module] = []
        channels = STEM_CHANNELS
        for number, (kernel, stride, expansion, base, repeats) in enumerate(STAGES):
            scaled = _multiple_of_8(base * width)
            scales = 0 < number < len(STAGES) - 1
            for block in range(math.ceil(repeats * depth) if scales else repeats):
                blocks.append(
                    InvertedResidual(channels, scaled, kernel, stride if block == 0 else 1, expansion)
                )
                channels = scaled
        self.blocks = nn.Sequential(*blocks)
        self.top = ConvNorm(channels, EMBEDDING, 1)
        self.embedding_size = EMBEDDING

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) normalised → (B, 1280) embedding."""
        if self.stem.is_fused:
            x = x.flip(2, 3)
        x = self.top(self.blocks(self.stem(x)))  # (B, 1280, S / 32, S / 32), rounded up
        return x.mean((2, 3))  # (B, 1280)

    def prepare_for_inference(self) -> None:
        """Fold every norm into the convolution before it; in place, in evaluation mode.

        What is given and computed is the same; inside, images are turned by half a turn: see `ConvNorm`.
        """
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fuse()


def _multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8, but never less than nine tenths of what was asked."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
