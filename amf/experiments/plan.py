"""The plan of a whole reproduction: one YAML file that names the recipes of its stages."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from amf.data.loading import read_yaml
from amf.data.repositories import DATASETS
from amf.data.schema import RootPath
from amf.errors import RecipeError
from amf.experiments.paper import TABLE_1
from amf.training.recipe import BASELINE, Recipe, combinations, read_recipe, read_variants


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Ablation(_Section):
    """Table 1: its recipe, the data recipe of its figures, and how much of it is run."""

    recipe: Path
    data: Path
    cells: list[str] = list(TABLE_1)
    folds: int = Field(5, ge=2)


class Plan(_Section):
    """Every path is relative to the plan's own folder.

    Attributes
    ----------
    fetch : data set → where its publisher's names differ, place below the root → published path.
    data : data recipe. lodo : recipes, the first is the paper's choice and the others stand beside it.
    grid : values by dotted key for the first recipe; the combination of greatest BA goes on.
    """

    name: str
    fetch: dict[str, dict[RootPath, str] | None]
    data: Path
    lodo: list[Path] = Field(min_length=1)
    grid: dict[str, list[Any]] = {}
    ablation: Ablation

    def recipes(self) -> list[Recipe]:
        """The recipes of the LODO runs."""
        return [read_recipe(path) for path in self.lodo]

    def grid_recipes(self) -> list[Recipe]:
        """One recipe a combination; the one that equals the first LODO recipe bears its name, and run."""
        base = read_recipe(self.lodo[0])
        if not self.grid:
            return [base]
        found = combinations(base, self.grid, f"plan {self.name}")
        return [base if recipe.model_copy(update={"name": base.name}) == base else recipe for recipe in found]

    def ablation_recipe(self) -> Recipe:
        """Table 1's recipe."""
        return self.ablation_variants()[BASELINE]

    def ablation_variants(self) -> dict[str, Recipe]:
        """Table 1's rows."""
        return read_variants(self.ablation.recipe)


def read_plan(path: Path) -> Plan:
    """Read and check a plan.

    Raises
    ------
    RecipeError : no such file, not YAML, an unknown key, data set or row of Table 1; the key is named.
    """
    content = read_yaml(path, RecipeError)
    try:
        plan = Plan.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the plan"
        raise RecipeError(f"{path}: {key}: {first['msg']}, found {first['input']!r}") from error
    if unknown := set(plan.fetch) - set(DATASETS):
        raise RecipeError(
            f"{path}: fetch: {', '.join(sorted(unknown))} is unknown, expected {', '.join(DATASETS)}"
        )
    if unknown := set(plan.ablation.cells) - set(TABLE_1):
        raise RecipeError(
            f"{path}: ablation.cells: {', '.join(sorted(unknown))} is unknown, expected {', '.join(TABLE_1)}"
        )
    if BASELINE not in plan.ablation.cells:
        raise RecipeError(f"{path}: ablation.cells: {BASELINE} is missing, the others are differences to it")
    folder = path.parent
    ablation = plan.ablation
    return plan.model_copy(
        update={
            "data": folder / plan.data,
            "lodo": [folder / recipe for recipe in plan.lodo],
            "ablation": ablation.model_copy(
                update={"recipe": folder / ablation.recipe, "data": folder / ablation.data}
            ),
        }
    )
