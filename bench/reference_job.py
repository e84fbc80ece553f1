"""The job as reference containers write it: timm construction, torch.load in fp32, one page at a time.

    python -m bench.reference_job TIMM_MODEL WEIGHTS.pth STACK.tif OUTPUT.json [timm argument=value …]

Only bench/job.py runs it, for comparison; of the package it uses only the repair of
torchvision's import.
"""

import json
import sys
from pathlib import Path

import torch
from PIL import Image

from amf.model.torchvision_shim import ensure_torchvision


def main() -> None:
    """Build, load, score page by page, write."""
    name, weights, stack, output, *options = sys.argv[1:]
    ensure_torchvision()
    import timm

    arguments = {key: json.loads(value) for key, value in (option.split("=") for option in options)}
    model = timm.create_model(name, pretrained=False, num_classes=1, **arguments)
    model.load_state_dict(torch.load(weights, map_location="cpu"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).eval()
    answers = []
    with Image.open(stack) as image, torch.no_grad():
        for page in range(getattr(image, "n_frames", 1)):
            image.seek(page)
            pixels = torch.frombuffer(
                bytearray(image.convert("RGB").resize((224, 224)).tobytes()), dtype=torch.uint8
            )
            x = pixels.view(1, 224, 224, 3).permute(0, 3, 1, 2).float() / 255  # (1, 3, 224, 224)
            p = torch.sigmoid(model(((x - 0.5) / 0.25).to(device))).item()
            answers.append({"class": "atypical" if p >= 0.5 else "normal", "confidence": p})
    Path(output).write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
