"""Pages that are made when the site is built: recipes, commands, the notebook, and linked files outside docs/."""

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from scarce_cxr.cli import COMMANDS

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"
RECIPES_INDEX = "reference/recipes/index.md"
# Files outside docs/ that are linked.
FILES = "files/"
# Groups of recipes, by the folder that they lie in.
GROUPS = {".": "Our defaults", "small": "For a laptop", "reference": "As the original experiments ran them"}

# What else of the repository has a page.
_MADE = {"recipes": RECIPES_INDEX, "docs/start/api.ipynb": "start/api.md"}
_LINK = re.compile(r"(?<=\]\()(?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))")
# These read their own command line: what they take beside it is said where the recipe is described.
_OF_RECIPES = {"pretrain", "plan", "schedules", "methods"}
_UNSEARCHED = "---\nsearch: {exclude: true}\n---\n"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts a page for every recipe behind the recipes' index."""
    pages = [{_recipe_name(path): f"reference/recipes/{_recipe_name(path)}.md"} for path in _recipes()]
    config.nav = _with_recipes(config.nav, [RECIPES_INDEX, *pages])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made."""
    made = {f"reference/recipes/{_recipe_name(path)}.md": recipe_page(path) for path in _recipes()}
    made |= {
        RECIPES_INDEX: recipes_page(),
        "reference/commands.md": commands_page(),
        "start/api.md": notebook_page(Path(config.docs_dir) / "start/api.ipynb"),
    }
    for page in files.documentation_pages():
        for path in _linked_files(page.src_uri, page.content_string):
            made[_page_of(path)] = file_page(path)
    for name, content in made.items():
        listed = InclusionLevel.NOT_IN_NAV if name.startswith(FILES) else InclusionLevel.UNDEFINED
        files.append(File.generated(config, name, content=content, inclusion=listed))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links that leave docs/ to the pages that were made of their files."""

    def lead(match: re.Match) -> str:
        path = _repository_path(page.file.src_uri, match["target"])
        made = _page_of(path)
        if made is None:
            return match[0]
        return posixpath.relpath(made, posixpath.dirname(page.file.src_uri)) + (match["anchor"] or "")

    return _LINK.sub(lead, markdown)


def read_heading(text: str) -> tuple[str, dict[str, str], str]:
    """Takes a recipe's heading comment apart.

    Args:
        text: the recipe's YAML.

    Returns:
        Its first sentence, its entries by name (Paper, Command, ...), and the YAML below it.
    """
    lines = text.splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    title, *rest = [line[1:].strip() for line in lines[:end]]
    entries: dict[str, str] = {}
    for line in filter(None, rest):
        if named := re.match(r"([A-Z][a-z]+): +(.*)", line):
            name = named[1]
            entries[name] = named[2]
        else:
            entries[name] += f" {line}"
    return title, entries, "\n".join(lines[end:]).strip()


def recipe_page(path: Path) -> str:
    """A recipe's page: its heading, then the YAML."""
    title, entries, settings = read_heading(path.read_text())
    rows = [f"| {name} | {text.replace('|', '&#124;')} |" for name, text in entries.items() if name != "Command"]
    parts = [f"# {_recipe_name(path)}", title]
    if "Command" in entries:
        parts.append(f"    {entries['Command']}")
    parts += ["\n".join(["| | |", "|---|---|", *rows]), f"```yaml\n{settings}\n```", "Research use only."]
    return "\n\n".join(parts) + "\n"


def recipes_page() -> str:
    """The list of recipes."""
    parts = ["# Recipes", "A recipe says everything about a run; any setting may be overridden on the command line."]
    parts.append(
        "Settings are described under [recipes and runs](../api/training.md), [methods](../api/methods.md) and"
    )
    parts[-1] += " [views](../api/views.md)."
    for folder, group in GROUPS.items():
        rows = [
            f"| [{_recipe_name(path)}]({_recipe_name(path)}.md) | {read_heading(path.read_text())[0]} |"
            for path in _recipes()
            if str(path.parent.relative_to(RECIPES)) == folder
        ]
        parts += [f"## {group}", "\n".join(["| recipe | |", "|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def commands_page() -> str:
    """Every command with its options, from the functions' own docstrings."""
    parts = ["# Commands", "`scarce COMMAND --help` says the same; `--json` prints a command's tables for machines."]
    for name, what in COMMANDS.items():
        parts.append(f"## scarce {name} {{#{name}}}")
        if name in _OF_RECIPES:
            parts.append(f"{what[0].upper()}{what[1:]}.")
            parts.append("It takes [recipes](recipes/index.md), and their [settings](api/training.md) as options.")
        else:
            options = "{heading_level: 3, show_root_heading: false, show_root_toc_entry: false}"
            parts.append(f"::: scarce_cxr.commands.{name}.{name}\n    options: {options}")
    return "\n\n".join(parts) + "\n"


def notebook_page(path: Path) -> str:
    """A notebook as it is kept, with what it printed."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            printed = output.get("text") or output["data"]["text/plain"]
            parts.append(f"```text\n{''.join(printed).rstrip()}\n```")
    # As a tag, so that it is not led back to this page.
    parts.append(f'This page is <a href="{path.name}">a notebook</a>.')
    return "\n\n".join(parts) + "\n"


def file_page(path: str) -> str:
    """A file of the repository, as it is."""
    kind = {".py": "python", ".yaml": "yaml"}.get(posixpath.splitext(path)[1], "text")
    return f"{_UNSEARCHED}# {posixpath.basename(path)}\n\n`{path}`\n\n````{kind}\n{(ROOT / path).read_text()}````\n"


def _recipes() -> list[Path]:
    """Recipes, those of the same folder beside each other."""
    return sorted(RECIPES.rglob("*.yaml"), key=lambda path: (list(GROUPS).index(_folder(path)), path.name))


def _folder(path: Path) -> str:
    return str(path.parent.relative_to(RECIPES))


def _recipe_name(path: Path) -> str:
    return str(path.relative_to(RECIPES).with_suffix(""))


def _with_recipes(nav: list | dict | str, pages: list) -> list | dict | str:
    """The navigation with the index of recipes replaced by all of their pages."""
    if nav == RECIPES_INDEX:
        return pages
    if isinstance(nav, dict):
        return {title: _with_recipes(of, pages) for title, of in nav.items()}
    return [_with_recipes(of, pages) for of in nav] if isinstance(nav, list) else nav


def _linked_files(page: str, markdown: str) -> Iterator[str]:
    """Files outside docs/, but no recipes, that a page links to."""
    for match in _LINK.finditer(markdown):
        path = _repository_path(page, match["target"])
        made = _page_of(path)
        if made is not None and made.startswith(FILES):
            yield path


def _repository_path(page: str, target: str) -> str:
    """Where a link leads, seen from the repository's root."""
    return posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))


def _page_of(path: str) -> str | None:
    """The page that is made of a file; none of what lies in docs/ or is not there."""
    if path in _MADE:
        return _MADE[path]
    if path.startswith("docs/") or not (ROOT / path).is_file():
        return None
    recipe = re.fullmatch(r"recipes/(.+)\.yaml", path)
    return f"reference/recipes/{recipe[1]}.md" if recipe else f"{FILES}{path}.md"
