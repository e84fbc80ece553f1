"""Recipes: one YAML file per experiment, checked into typed objects; each value has one place and a range."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from amf.data.loading import read_yaml
from amf.data.schema import Section, first_fault
from amf.errors import RecipeError
from amf.files import write_text

if TYPE_CHECKING:
    from amf.model.classifier import HeadSpec
    from amf.model.preprocess import ImageSpec

BASELINE = "baseline"
"""What the recipe itself is called among its variants."""


class Lora(Section):
    """Low-rank adapters. The paper names neither rank nor targets; the published neighbours do:

    AMi-Br_Benchmark r 8, alpha 16, dropout 0.3 on qkv, proj, fc1, fc2; the challenge winner r 4, alpha 8 on
    q and v.
    """

    rank: int = Field(8, ge=1, le=512)
    alpha: float = Field(16, gt=0)
    dropout: float = Field(0.3, ge=0, lt=1)
    targets: tuple[str, ...] = Field(("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"), min_length=1)


class Model(Section):
    """What is trained, from which weights, and how a bundle will hold it."""

    backbone: str
    arguments: dict[str, Any] = Field({})
    weights: str = Field(
        description="'random', 'hub' (its cache included), 'imagenet' (a package), or a local file"
    )
    train: Literal["all", "head", "lora"]
    lora: Lora | None = None
    frozen_blocks: int = Field(
        0, ge=0, description="EfficientNet-Lite: stem and first blocks stay as they are"
    )
    hidden: int = Field(256, ge=0, description="units of the MLP head; 0 makes it linear")
    dropout: float = Field(0.2, ge=0, lt=1)
    field_of_view_px: int | None = Field(None, ge=16, le=128, description="default: the backbone's own")
    input_px: int | None = Field(None, ge=16, le=1024)
    symmetric: bool = Field(False, description="compact only: weights tied by the square's 8 symmetries")
    views: Literal[1, 2, 4, 8] = 1
    storage: Literal["float32", "float16", "bfloat16", "int8"] = "float32"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.lora is not None) != (self.train == "lora"):
            raise ValueError(f"train is {self.train!r}, expected 'lora' exactly where a lora section stands")
        if self.weights == "random" and self.train != "all":
            raise ValueError(f"weights are random and train is {self.train!r}: nothing would ever be learnt")
        if self.frozen_blocks and (
            not self.backbone.startswith("efficientnet-lite")
            or self.train != "all"
            or self.weights == "random"
        ):
            raise ValueError("frozen_blocks is for an EfficientNet-Lite with weights, and train: all")
        if self.lora is not None and self.backbone == "compact":
            raise ValueError("the compact backbone is trained whole, expected a timm backbone under adapters")
        if self.symmetric and (self.backbone, self.weights, self.views) != ("compact", "random", 1):
            raise ValueError("symmetric is for the compact backbone from random weights, with one view")
        return self

    @property
    def head(self) -> "HeadSpec":
        """Shape of the head."""
        from amf.model.classifier import HeadSpec

        return HeadSpec(self.hidden, self.dropout)

    @property
    def image(self) -> "ImageSpec":
        """The backbone's image specification with the recipe's changes."""
        from amf.model.backbones import BACKBONES
        from amf.model.preprocess import ImageSpec

        default = BACKBONES[self.backbone].image
        return ImageSpec(
            self.field_of_view_px or default.field_of_view_px,
            self.input_px or default.input_px,
            default.interpolation,
            default.mean,
            default.std,
        )


class Loss(Section):
    """Weights and constants of the loss; the defaults are the paper's."""

    labels: Literal["soft", "hard"] = "soft"
    gamma: float = Field(2.0, ge=0)
    adaptive_weight: bool = Field(True, description="w+ = N_NMF / N_AMF, else 1")
    adaptive_over: Literal["drawn", "training"] = Field(
        "drawn",
        description="whose N: of the epoch's draws, near 1 : 1 by the sampler, or the training set",
    )
    contrastive: float = Field(0.5, ge=0)
    domain: float = Field(0.1, ge=0)
    domain_ramp: bool = False

    @model_validator(mode="after")
    def _finite_slope(self) -> Self:
        if 0 < self.gamma < 1:
            raise ValueError(f"gamma is {self.gamma}, expected 0 or at least 1")
        return self


class Sampling(Section):
    """The domain-aware weighted sampler; the defaults are the paper's."""

    balance_classes: bool = True
    balance_domains: bool = True
    hard_mining: bool = True


class Optimise(Section):
    """The loop. Defaults the paper leaves open are the challenge winner's: AdamW 1e-4, decay 0.1, cosine."""

    epochs: int = Field(20, ge=1)
    batch: int = Field(64, ge=2, description="patches a step over all processes and accumulation steps")
    accumulate: int = Field(1, ge=1, description="parts that a process takes its share of a batch in")
    learning_rate: float = Field(1e-4, gt=0, lt=1)
    weight_decay: float = Field(0.1, ge=0, description="of matrices and filters; norms and biases have none")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of all steps")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the weight average a step; 0 = none")
    patience: int = Field(5, ge=1, description="epochs without a better monitor value before stopping")
    monitor: Literal["loss", "auc", "last"] = Field(
        "loss", description="the epoch to keep: of lowest loss, of highest AUC, or the last of the schedule"
    )
    precision: Literal["auto", "float32"] = "auto"
    activation_checkpointing: float = Field(0.0, ge=0, le=1, description="share of the blocks that recompute")
    seed: int = Field(0, ge=0)


class Recipe(Section):
    """One experiment, complete."""

    name: str
    model: Model
    augmentation: str = "medium"
    mixup: str | None = "standard"
    mixup_share: float = Field(1.0, ge=0, le=1, description="share of the batches that are mixed")
    loss: Loss = Loss()
    sampling: Sampling = Sampling()
    optimise: Optimise = Optimise()

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        # here and not above, so that any other fault shows before torch is imported
        from amf.augmentation.sets import AUGMENTATIONS, MIXUPS
        from amf.model.backbones import BACKBONES

        name = self.model.backbone
        if name not in BACKBONES:
            raise ValueError(f"backbone {name!r} is unknown, expected one of {', '.join(BACKBONES)}")
        if self.model.storage == "int8" and BACKBONES[name].serve is None:
            able = ", ".join(name for name, entry in BACKBONES.items() if entry.serve is not None)
            raise ValueError(f"storage is int8 and the backbone {name!r}, expected one of {able}")
        if self.augmentation not in AUGMENTATIONS:
            raise ValueError(
                f"augmentation {self.augmentation!r}: expected one of {', '.join(AUGMENTATIONS)}"
            )
        if self.mixup is not None and self.mixup not in MIXUPS:
            raise ValueError(f"mixup {self.mixup!r}: expected one of {', '.join(MIXUPS)}, or null")
        return self


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file, laid over its `base` (see `_read`).

    Raises
    ------
    RecipeError : no such file, not YAML, an unknown key or a value out of range; the key is named. Also a
        grid or variants: they stand for many recipes.
    """
    content, source = _read(path)
    for section in ("grid", "variants"):
        if isinstance(content, dict) and section in content:
            raise RecipeError(f"{path} has the section {section!r}, expected a single recipe")
    return parse_recipe(content, source)


def _read(path: Path, above: tuple[Path, ...] = ()) -> tuple[Any, str]:
    """A recipe file's content, and the words for it in an error.

    The key `base` names another recipe file, relative to this one's folder: its values hold where this file
    gives none. Sections are merged key by key; a list or null replaces what the base has. A file's `name` is
    always its own. `above` are the files whose base this one is.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or "base" not in content:
        return content, str(path)
    base, chain = content.pop("base"), (*above, path.resolve())
    if not isinstance(base, str):
        raise RecipeError(f"{path}: base is {base!r}, expected the path of a recipe")
    if (below := path.parent / base).resolve() in chain:
        raise RecipeError(f"{path}: base {base} leads back to {below.name}, expected no circle")
    values, source = _read(below, chain)
    if not isinstance(values, dict):
        raise RecipeError(f"{source} holds {values!r}, expected a recipe, which {path} names as its base")
    values.pop("name", None)
    return _laid_over(values, content), f"{path} on {source}"


def _laid_over(base: Any, changes: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    return {**base, **{key: _laid_over(base.get(key), value) for key, value in changes.items()}}


def read_recipes(path: Path) -> list[Recipe]:
    """All recipes that a file stands for: a grid's combinations, its variants (`read_variants`), or itself.

    The section `grid` beside the recipe's own lists values by dotted key, as
    {model.lora.rank: [4, 8], optimise.learning_rate: [1e-4, 3e-4]}. There is a recipe for each combination of
    its values, in their order, whose name ends in the values.

    Raises
    ------
    RecipeError : as `read_recipe`, or a grid that is not lists of different values by key.
    """
    content, source = _read(path)
    if isinstance(content, dict) and "variants" in content:
        return list(read_variants(path).values())
    if not isinstance(content, dict) or "grid" not in content:
        return [parse_recipe(content, source)]
    grid = content.pop("grid")
    base = parse_recipe(content, source)
    if not isinstance(grid, dict) or not all(isinstance(values, list) and values for values in grid.values()):
        raise RecipeError(f"{source}: grid is {grid!r}, expected a list of values for each dotted key")
    recipes = []
    for values in itertools.product(*grid.values()):
        changes = dict(zip(grid, values, strict=True))
        name = ", ".join([base.name, *(f"{key} {value}" for key, value in changes.items())])
        recipes.append(override(base, {**changes, "name": name}))
    if len({recipe.name for recipe in recipes}) < len(recipes):
        raise RecipeError(f"{source}: grid is {grid!r}, expected every value of a key once")
    return recipes


def read_variants(path: Path) -> dict[str, Recipe]:
    """Read a recipe file with a section `variants` beside the recipe's own: each changes the recipe apart.

    As {longer: {optimise.epochs: 48}, "no MixUp": {mixup: null}}; the recipe itself comes first, as BASELINE.

    Raises
    ------
    RecipeError : as `read_recipe`, or variants that are not changes by name.
    """
    content, source = _read(path)
    variants = content.pop("variants", None) if isinstance(content, dict) else None
    if (
        not isinstance(variants, dict)
        or not all(isinstance(changes, dict) and changes for changes in variants.values())
        or BASELINE in variants
    ):
        raise RecipeError(
            f"{path}: variants is {variants!r}, expected a set of changes by name, none named {BASELINE!r}"
        )
    base = parse_recipe(content, source)
    changed = {
        str(name): override(base, {"name": f"{base.name}: {name}", **changes})
        for name, changes in variants.items()
    }
    return {BASELINE: base, **changed}


def parse_recipe(content: Any, source: str) -> Recipe:
    """Check a recipe's content; `source` is what an error calls it. Raises RecipeError."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{source}: {first_fault(error)}") from error


def override(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """Copy a recipe with values replaced by dotted key, as {"optimise.epochs": 5}; checked like a file.

    Raises
    ------
    RecipeError : a key does not exist or its value is out of range.
    """
    content = recipe.model_dump(mode="json")
    for key, value in changes.items():
        *sections, last = key.split(".")
        section: Any = content
        for name in sections:
            section = section.get(name) if isinstance(section, dict) else None
        if not isinstance(section, dict):
            raise RecipeError(f"recipe {recipe.name}: {key} is unknown")
        section[last] = value
    return parse_recipe(content, f"recipe {recipe.name} with {changes}")


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Save the resolved recipe beside a run."""
    write_text(path, yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
