"""Where the recipes that come with the package are."""

from pathlib import Path

import scarce_cxr
from scarce_cxr.errors import ScarceError

# All of NIH ChestX-ray14: what is trained on where a recipe is read without a store.
NIH_FILMS = 112_120


def recipes_folder() -> Path:
    """The folder of shipped recipes: inside an installed package, or beside the source."""
    package = Path(scarce_cxr.__file__).parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parents[1] / "recipes"


def find_recipe(name: str) -> Path:
    """A recipe by path, or by its name among the shipped ones (`small/spark`).

    Raises:
        ScarceError: there is no such recipe.
    """
    folder = recipes_folder()
    for path in (Path(name), folder / name, folder / f"{name}.yaml", folder / name.removeprefix("recipes/")):
        if path.is_file():
            return path
    known = ", ".join(sorted(map(recipe_name, folder.rglob("*.yaml"))))
    raise ScarceError("a recipe", f"no file {name}", f"the shipped ones are {known}")


def recipe_name(path: Path) -> str:
    """What `find_recipe` knows a shipped recipe by (`small/spark`); of another one the file's name without suffix."""
    path, folder = path.resolve(), recipes_folder().resolve()
    return str((path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)).with_suffix(""))
