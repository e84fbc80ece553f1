"""The compact backbone: a small pre-activation residual CNN, trained from random weights.

Identity mappings in residual networks (He et al., ECCV 2016), at the size that a few thousand
64 px patches can fill.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval


class PreActivationBlock(nn.Module):
    """BN → ReLU → convolution, twice, around a shortcut; a projection where the shape changes.

    Where it halves the resolution, kernels and averages are 2 or 4 px wide: an odd kernel of stride 2 would
    sit off the centre of an even image, and a turned image would give other features than turned ones.
    """

    def __init__(self, channels_in: int, channels_out: int, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        kernel, stride = (4, 2) if halve else (3, 1)
        self.norm1: nn.Module = nn.BatchNorm2d(channels_in)
        self.conv1: nn.Module = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=1, bias=False)
        self.norm2: nn.Module = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.activation1: nn.Module = nn.ReLU(inplace=True)
        self.activation2: nn.Module = nn.ReLU(inplace=True)
        self.project: nn.Module | None = None
        if halve or channels_in != channels_out:
            self.project = nn.Conv2d(channels_in, channels_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) → (B, C_out, H, W), or half as high and wide."""
        activated = self.activation1(self.norm1(x))
        shortcut = x
        if self.project is not None:
            shortcut = self.project(functional.avg_pool2d(activated, 2) if self.halve else activated)
        out: Tensor = self.conv2(self.activation2(self.norm2(self.conv1(activated))))
        return out.add_(shortcut)

    def fuse(self) -> None:
        """Fold the second norm into the convolution before it, and tie its activation to that.

        The first norm has none before it: it becomes a filter of one px a channel, which takes the activation
        along as a convolution does.
        """
        if isinstance(self.norm1, nn.BatchNorm2d):
            self.norm1 = nn.Sequential(as_convolution(self.norm1), self.activation1)
            self.activation1 = nn.Identity()
        if isinstance(self.conv1, nn.Conv2d) and isinstance(self.norm2, nn.BatchNorm2d):
            self.conv1 = nn.Sequential(fuse_conv_bn_eval(self.conv1, self.norm2), self.activation2)
            self.norm2 = self.activation2 = nn.Identity()


def as_convolution(norm: nn.BatchNorm2d) -> nn.Conv2d:
    """A norm in evaluation mode as a convolution of 1 x 1 px, a filter a channel."""
    channels = norm.num_features
    identity = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
    nn.init.ones_(identity.weight)
    return fuse_conv_bn_eval(identity.eval(), norm)


class Compact(nn.Module):
    """Stem, a stage of residual blocks per width (halving the resolution between stages), average pooling.

    The stem halves the resolution at once, with more channels than the 12 values it reads per position, so
    that nothing is lost and the costly full-resolution stage falls away.

    Parameters
    ----------
    widths : channels of each stage; blocks : how many blocks each has, by default two.
    """

    def __init__(
        self, widths: Sequence[int] = (32, 64, 128, 256), blocks: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        blocks = [2] * len(widths) if blocks is None else blocks
        if len(blocks) != len(widths):
            raise ValueError(f"blocks is {blocks}, expected a number for each of {len(widths)} widths")
        self.stem = nn.Conv2d(3, widths[0], 6, 2, padding=2, bias=False)
        stages: list[nn.Module] = []
        channels = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(count):
                stages.append(PreActivationBlock(channels, width, halve=stage > 0 and block == 0))
                channels = width
        self.blocks = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(channels)
        self.embedding_size = channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) normalised → (B, widths[-1]) embedding."""
        x = self.blocks(self.stem(x))  # (B, widths[-1], S / 16, S / 16)
        return self.norm(x).relu_().mean((2, 3))  # (B, widths[-1])

    def prepare_for_inference(self) -> None:
        """Fold norms into convolutions where they follow one; in place, in evaluation mode."""
        for block in self.blocks:
            block.fuse()  # type: ignore[operator]
