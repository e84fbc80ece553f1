"""A network made ready for scoring: norms folded, on its device in its type, packed for the kernels there."""

import torch

from amf.model.backbones import TimmBackbone
from amf.model.classifier import Classifier
from amf.model.convolution import pack_convolutions
from amf.model.linear import pack_linears


def make_ready(model: Classifier, device: torch.device, dtype: torch.dtype) -> str | None:
    """Make a network with its final weights ready to score, in place; it is not trained or stored afterwards.

    Returns
    -------
    Where int8 weights are not computed as such, why; else None.
    """
    model.prepare_for_inference()
    why = None
    if not isinstance(model.backbone, TimmBackbone):  # of timm's networks, some read their layers' weights
        why = pack_linears(model.backbone, device, dtype)
        pack_convolutions(model.backbone, device)
    model.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return why
