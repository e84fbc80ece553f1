"""The model card: what a bundle's own records say, in words for its users."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pandas import DataFrame

from amf.evaluation.summary import span
from amf.experiments.record import markdown
from amf.files import write_text
from amf.model.spec import BundleSpec

CARD = "MODEL_CARD.md"
INTENDED_USE = """## Intended use and limits

Research on mitotic figure morphology and the MIDOG 2025 Track 2 task: given a 128 x 128 px patch
(about 0.25 µm/px, H&E) centred on a figure already known to be mitotic, say whether it is atypical.
It is **not a medical device and not for diagnosis**. It does not detect mitoses, and gives an answer
for anything it is shown. Accuracy on scanners, stains, species and tumours that are absent from the
training data is unknown; labels are majority votes of pathologists who often disagree.
"""


def write_card(folder: Path, spec: BundleSpec) -> None:
    """Write the card of a bundle into its folder."""
    write_text(folder / CARD, model_card(spec))


def model_card(spec: BundleSpec) -> str:
    """Render the card of a bundle from bundle.json alone (Markdown)."""
    record = spec.provenance
    sets, calibration = record.get("metrics", {}), record.get("calibration", {})
    lines = [f"# Model card: {spec.name}", "", str(record.get("summary", "")), ""]
    lines += [f"> **{warning}.**\n" for warning in calibration.get("warnings", [])]
    members = [
        {
            "backbone": f"{member.backbone} {dict(member.arguments) or ''}",
            "input": f"centre {member.image.field_of_view_px} px → {member.image.input_px} px",
            "views": member.views,
            "stored as": member.dtype,
            "weights SHA-256": f"`{member.sha256[:16]}…`",
        }
        for member in spec.members
    ]
    lines += ["## Members", "", markdown(DataFrame(members, index=range(1, len(members) + 1)), "member")]
    lines += ["## Data", "", *(f"- {name}: {text}" for name, text in record.get("data", {}).items()), ""]
    bias = f"{spec.bias:.4f}" if spec.bias else "0 (none was fitted)"
    lines += [
        "## Decision",
        "",
        "confidence = sigmoid(logit / temperature + bias) = P(atypical), with",
        f"temperature {spec.temperature:.4f} and bias {bias};",
        f"atypical from threshold {spec.threshold:.4f} on.",
        f"Fitted on {spec.fitted_on}.",
        "",
        "## Measured",
        "",
        markdown(DataFrame.from_dict(sets, orient="index"), "set") if sets else "Nothing yet.",
        "",
    ]
    if held_out := calibration.get("held_out"):
        lines += [f"{held_out_in_words(held_out)}.", ""]
    lines += [INTENDED_USE, "## Made with", ""]
    lines += [f"- {name}: {text}" for name, text in record.get("made_with", {}).items()]
    return "\n".join(lines) + "\n"


def held_out_in_words(held_out: Mapping[str, Any]) -> str:
    """The pooled scores of a calibration's held-out answers with their intervals."""
    auc, accuracy = (
        f"{held_out[name]:.3f} (95 % interval {span(held_out['intervals'][name])})"
        for name in ("roc_auc", "balanced_accuracy")
    )
    return f"out of fold, all figures pooled: AUC {auc}, BA {accuracy}"
