r"""The first compact model: a plain recipe in one file, to be replaced by the recipe engine.

    python -m amf.training.baseline --patches DIR --labels AMI-BR.csv --split amibr_train_split.csv \
        --out RUN --bundle model

Trains on the published AMi-Br train split less one slide in five, which calibrates; reads the two
test sets once, at the end.
"""

import argparse
import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from amf import __version__, backbones
from amf.bundle import MemberSpec, write
from amf.classifier import Classifier, HeadSpec
from amf.preprocess import PATCH_PX, normalise, to_input
from amf.training.calibrate import fit_temperature, fit_threshold
from amf.training.card import model_card

SPEC = backbones.BACKBONES["compact"].image
HEAD = HeadSpec(hidden=64, dropout=0.2)


def load(patches: Path, labels: Path, split: Path) -> dict[str, tuple[Tensor, NDArray[Any], NDArray[Any]]]:
    """Read (images uint8 (N, 128, 128, 3), soft labels, labels) of train, calibration and both test sets."""
    table = pd.read_csv(labels)
    votes = table[["expert1_atypical", "expert2_atypical", "expert3_atypical"]].astype(float).mean(axis=1)
    names = table["dataset"] + "_" + table["uid"].astype(str) + ".png"
    label = table["majority_atypical"].astype(int)
    folder = np.where(label == 1, "Atypical", "Normal")
    files = [patches / "AMi-Br" / f / n for f, n in zip(folder, names, strict=True)]
    in_train = names.isin(set(pd.read_csv(split)["dataset_uid"])).to_numpy()
    slides = (table["dataset"] + table["slide"]).to_numpy()
    rng = np.random.default_rng(0)
    unique = np.unique(slides[in_train])
    calibration_slides = set(rng.choice(unique, len(unique) // 5, replace=False))
    calibrate = in_train & np.array([s in calibration_slides for s in slides])
    images = read(files)
    sets = {}
    for name, mask in {
        "train": in_train & ~calibrate,
        "calibrate": calibrate,
        "AMi-Br test": ~in_train,
    }.items():
        rows = np.flatnonzero(mask)
        sets[name] = (images[rows], votes.to_numpy()[rows], label.to_numpy()[rows])
    other = sorted((patches / "AtNorM-MD").rglob("*.png"))
    truth = np.array([int(f.parent.name == "Atypical") for f in other])
    sets["AtNorM-MD"] = (read(other), truth.astype(float), truth)
    return sets


def read(files: list[Path]) -> Tensor:
    """Decode PNG patches into uint8 (N, 128, 128, 3)."""
    return torch.from_numpy(np.stack([np.asarray(Image.open(f).convert("RGB")) for f in tqdm(files)]))


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate, flip, scale and shift each patch in one resampling; jitter its optical density.

    (B, 128, 128, 3) uint8 → (B, 3, input_px, input_px) float in [0, 1].
    """
    n = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    angle = uniform(0, 2 * math.pi)
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    scale = torch.exp(uniform(-0.2, 0.2)) * SPEC.field_of_view_px / PATCH_PX
    shift = uniform(-8, 8, 2) * 2 / PATCH_PX
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [cos * flip, -sin, shift[:, 0], sin * flip, cos, shift[:, 1]]
    theta = torch.stack(rows, 1).view(n, 2, 3)
    grid = functional.affine_grid(theta, [n, 3, SPEC.input_px, SPEC.input_px], align_corners=False)
    source = images.permute(0, 3, 1, 2).float() / 255
    x = functional.grid_sample(source, grid, padding_mode="reflection", align_corners=False)
    density = -torch.log(x.clamp(1 / 255, 1))
    density = density * torch.exp(uniform(-0.25, 0.25, 3, 1, 1)) + uniform(-0.06, 0.06, 3, 1, 1)
    return torch.exp(-density.clamp_min(0))


def batches(labels: NDArray[Any], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Class-balanced draws with replacement, as many as there are figures."""
    weight = np.where(labels == 1, 0.5 / labels.sum(), 0.5 / (1 - labels).sum())
    draws = rng.choice(len(labels), len(labels) // size * size, p=weight)
    return draws.reshape(-1, size)


@torch.inference_mode()
def logits(model: Classifier, images: Tensor) -> NDArray[np.float64]:
    """D4-averaged logits (N,)."""
    model.eval()
    out = []
    for chunk in images.split(128):
        x = to_input(chunk, SPEC)
        views = [torch.rot90(v, k, (2, 3)) for v in (x, x.flip(3)) for k in range(4)]
        out.append(torch.stack([model(v)[0] for v in views]).mean(0))
    return torch.cat(out).double().numpy()


def train(sets: dict[str, Any], epochs: int, seed: int) -> Classifier:
    """One-cycle AdamW on soft labels with MixUp on half the batches; returns the weight average (EMA)."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    images, soft, label = sets["train"]
    soft = torch.from_numpy(soft).float()
    model = Classifier("compact", {}, HEAD).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model)
    size = 64
    steps = epochs * (len(label) // size)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.2)
    for epoch in range(epochs):
        model.train()
        start, total = time.time(), 0.0
        for rows in batches(label, size, rng):
            x = normalise(augment(images[rows], generator), SPEC)
            y = soft[rows]
            if rng.random() < 0.5:
                mix, partner = rng.beta(0.3, 0.3), torch.randperm(size, generator=generator)
                x, y = mix * x + (1 - mix) * x[partner], mix * y + (1 - mix) * y[partner]
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                z, _ = model(x)
            loss = functional.binary_cross_entropy_with_logits(z.float(), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
            with torch.no_grad():
                for a, b in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
                    if a.is_floating_point():
                        a.lerp_(b, 0.005)
                    else:
                        a.copy_(b)
        z = logits(average, sets["calibrate"][0])
        auc = roc_auc_score(sets["calibrate"][2], z)
        print(
            f"epoch {epoch} loss {total / (len(label) // size):.4f} calibration AUC {auc:.4f} "
            f"{time.time() - start:.1f} s",
            flush=True,
        )
    return average


def bundle_run(run: Path, target: Path, seed: int, epochs: int) -> None:
    """Calibrate on the held-out slides, measure both test sets, write bundle and model card."""
    predictions = {
        name: (np.array(p["logit"]), np.array(p["label"]))
        for name, p in json.loads((run / "predictions.json").read_text()).items()
    }
    held_out, truth = predictions["calibrate"]
    temperature = fit_temperature(held_out, truth)
    threshold = fit_threshold(expit(held_out / temperature), truth)
    metrics = {}
    for name, (z, y) in predictions.items():
        called = expit(z / temperature) >= threshold.value
        sensitivity, specificity = float(called[y == 1].mean()), float((~called[y == 0]).mean())
        metrics["calibration slides" if name == "calibrate" else name] = {
            "figures": len(y),
            "AMF": int(y.sum()),
            "AUC": float(roc_auc_score(y, z)),
            "BA": (sensitivity + specificity) / 2,
            "sensitivity": sensitivity,
            "specificity": specificity,
        }
    provenance = {
        "summary": "A compact residual CNN trained from random weights on the published AMi-Br train split.",
        "data": {
            "trained on": "four fifths of the slides of the published AMi-Br train split (2,325 figures)",
            "calibrated on": "the remaining fifth of its slides (569 figures)",
            "tested on": "the published AMi-Br test split (826) and AtNorM-MD (2,107), read once",
        },
        "metrics": metrics,
        "made_with": {
            "recipe": f"python -m amf.training.baseline, {epochs} epochs, seed {seed}",
            "amf": __version__,
            "torch": str(torch.__version__),
            "threshold interval": f"{threshold.low:.3f} to {threshold.high:.3f} (95 %, bootstrap)",
        },
    }
    member = MemberSpec("compact", {}, HEAD, SPEC, 8, "set-by-write.safetensors", "", "float32")
    spec = write(
        target,
        [(member, torch.load(run / "model.pt", weights_only=True))],
        name="compact-baseline",
        temperature=temperature,
        threshold=threshold.value,
        fitted_on="569 figures of AMi-Br train slides that the network was not trained on",
        provenance=provenance,
    )
    (target / "MODEL_CARD.md").write_text(model_card(spec))
    print(json.dumps(metrics, indent=1))


def main() -> None:
    """Train, and save weights and every set's logits under --out."""
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--patches", "--labels", "--split", "--out"):
        parser.add_argument(flag, type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundle", type=Path, help="write the bundle here")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    sets = load(arguments.patches, arguments.labels, arguments.split)
    print({name: (len(y), int(y.sum())) for name, (_, _, y) in sets.items()}, flush=True)
    model = train(sets, arguments.epochs, arguments.seed)
    torch.save(model.state_dict(), arguments.out / "model.pt")
    predictions = {
        name: {"logit": logits(model, x).tolist(), "label": y.tolist()}
        for name, (x, _, y) in sets.items()
        if name != "train"
    }
    (arguments.out / "predictions.json").write_text(json.dumps(predictions))
    if arguments.bundle:
        bundle_run(arguments.out, arguments.bundle, arguments.seed, arguments.epochs)


if __name__ == "__main__":
    main()
