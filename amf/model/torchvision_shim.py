"""Make torchvision importable where its compiled operators are missing; our own networks do not need it.

The published torchvision wheel does not match the CPU build of torch: its compiled part is not loaded, and
`import torchvision` fails while it registers shape functions for two operators. Their schemas are all that
the import asks for, and nothing here calls them.
"""

import contextlib

import torch

SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def ensure_torchvision() -> None:
    """Make `import torchvision` work, which timm and transformers need; nothing to do where it works."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name, schema in SCHEMAS.items():
            with contextlib.suppress(RuntimeError):  # a future wheel may define one of the two
                torch.library.define(name, schema)
