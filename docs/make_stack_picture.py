"""Draw docs/scored-stack.png: the drawn figures of test/input/tiff with the answers of the bundle that ships.

python -m docs.make_stack_picture
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import amf
from amf.inference.stack import read_stack

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, GAP, TEXT_PX = 8, 6, 34
COLOURS = {"atypical": (213, 94, 0), "normal": (0, 114, 178)}  # told apart by the colour-blind, too


def main() -> None:
    """Score the stack, draw a row of tiles below another."""
    (stack,) = (ROOT / "test" / "input" / "tiff" / "images").rglob("*.tif*")
    pages = read_stack(stack)  # (N, 128, 128, 3)
    answers = amf.load(device="cpu").predict(pages)
    side = pages.shape[1]
    rows = -(-len(pages) // COLUMNS)
    picture = Image.new("RGB", (COLUMNS * (side + GAP) + GAP, rows * (side + TEXT_PX + GAP) + GAP), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    for number, page in enumerate(pages):
        label, confidence = answers.labels[number], answers.confidences[number]
        x = GAP + number % COLUMNS * (side + GAP)
        y = GAP + number // COLUMNS * (side + TEXT_PX + GAP)
        picture.paste(Image.fromarray(page), (x, y))
        draw.rectangle((x, y, x + side - 1, y + side - 1), outline=COLOURS[label], width=3)
        draw.text(
            (x, y + side + 1), f"{label}\nP(atypical) {confidence:.3f}", COLOURS[label], font, spacing=1
        )
    picture.quantize(256).save(ROOT / "docs" / "scored-stack.png", optimize=True)


if __name__ == "__main__":
    main()
