"""A network made ready for scoring: norms folded, on its device in its type, with the CPU's fast kernels.

The one place that asks for amf/cpu/: without that folder torch's ordinary layers compute the same networks.
"""

import torch
from torch import nn

from amf.model.backbones import TimmBackbone
from amf.model.classifier import Classifier
from amf.model.int8 import Int8Linear, make_whole

try:
    from amf import cpu
except ImportError:
    cpu = None  # type: ignore[assignment]


def make_ready(model: Classifier, device: torch.device, dtype: torch.dtype) -> str | None:
    """Make a network with its final weights ready to score, in place; it is not trained or stored afterwards.

    Returns
    -------
    Where int8 weights are not computed as such, why; else None.
    """
    model.prepare_for_inference()
    backbone, why = model.backbone, None
    if any(isinstance(layer, Int8Linear) for layer in backbone.modules()):
        why = reason_against_int8(device, dtype)
        if why is None:
            cpu.pack_int8(backbone)
        else:
            make_whole(backbone, dtype)
    model.to(device, dtype)
    # Some of timm's networks read their layers' weights; packed layers have none.
    if cpu is not None and device.type == "cpu" and not isinstance(backbone, TimmBackbone):
        if dtype in (torch.bfloat16, torch.float32):
            cpu.pack_linears(backbone)
        cpu.pack_convolutions(backbone)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return why


def quicken(module: nn.Module) -> None:
    """Give a network that learns on the CPU quicker gradients, in place."""
    if cpu is not None:
        cpu.quicken(module)


def reason_against_int8(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why int8 weights are not computed as such on a device in a type; None where they are."""
    if device.type != "cpu" or dtype != torch.bfloat16:
        return f"there is no kernel for them on {device} in {dtype}"
    return cpu.reason_against_int8() if cpu is not None else "amf/cpu/, which has the kernel, is not there"
