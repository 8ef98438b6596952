"""The command line: a table of commands. It parses, calls, prints; everything else happens elsewhere."""

import errno
import importlib
import inspect
import itertools
import json
import logging
import sys
import typing
from collections.abc import Sequence

from scarce_cxr.errors import ScarceError
from scarce_cxr.results import Result, Table

# Command -> what it does. `commands/<command>.py` holds a function of the same name whose signature and docstring
# make its options; a module that needs more offers `parse(arguments)` and `run(parsed)`.
COMMANDS = {
    "demo": "the whole way on phantom films, in a few minutes: films, store, pretraining, pictures",
    "phantom": "draw procedural chest films with a labels table, to try everything without data",
    "fetch": "download a public collection, resumed and checked, or say how to ask for it",
    "prepare": "read a folder of radiographs into a store",
    "show": "draw a store's contact sheet and summarise its table",
    "check": "find films that do not belong in a store, copies, shared patients, and the gap between stores",
    "merge": "make one store of several",
    "plan": "say what a run will need before it runs: memory, time, money, energy, disk; and whether it fits",
    "pretrain": "pretrain a backbone on a store by a recipe",
    "resume": "go on with a run that was stopped or killed, to the same bits",
    "monitor": "say whether runs learn or collapse, by what held-out films show; compare them with plain backbones",
    "probe": "fit a classifier to frozen features of a few labelled films, again and again, and test it on all others",
    "finetune": "train the last stages too on a few labelled films, and test them on all others",
    "compare": "say what trials show: starts side by side with intervals, differences, labels needed, figures",
    "explain": "draw where on films a finding's score comes from, start by start, and check that it was learned",
    "map": "map films' features, and say whether they tell site, view or sex; nearest neighbours and worst errors",
    "plateau": "run the recipe on which DINO's loss lay flat, and ours, on the same films, and show the difference",
    "embed": "compute the features of a store's films once, before probing",
    "report": "one page of a run, or of several side by side: verdict, curves, films, labels, cost; opens offline",
    "export": "write a backbone, with calibrated probes if asked for, for timm, torch.export, ONNX or a hub",
    "predict": "score single films by an exported model, with warnings of films that it was not made for",
    "reconstruct": "draw what a run imagines behind the mask",
    "leak": "show how visible pixels leak behind the mask in a dense encoder, and not in an exact one",
    "schedules": "draw the learning rates of several recipes, and list what decides them",
    "methods": "count what each recipe's method keeps in memory beside the backbone, and compare MoCo with DINO",
    "runs": "list the runs in a folder: state, steps, hours",
    "doctor": "say what this machine offers",
}
RESEARCH_USE = "Research use only: not a medical device."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Returns 0, 2 for the user's mistakes, 143 for a run that was told to stop."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        _print_commands()
        return 0
    if arguments[0] == "--version":
        print(importlib.import_module("importlib.metadata").version("scarce-cxr"))
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        return _complain(f"no command {name!r}{_suggestion(name, COMMANDS)}: `scarce --help` lists them all")
    as_json = "--json" in rest
    rest = [argument for argument in rest if argument != "--json"]
    _log_to_console()
    try:
        result = _call(name, rest)
    except ScarceError as error:
        return _complain(str(error))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        mend = "make room; `scarce resume RUN` goes on with a run, the same command again with all else"
        return _complain(str(ScarceError("space on the disk", error.filename or "none left", mend)))
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    _print_result(result, as_json)
    return result.exit_code


def _call(name: str, arguments: list[str]) -> Result:
    module = importlib.import_module(f"scarce_cxr.commands.{name}")
    arguments = [_with_underscores(argument) for argument in arguments]
    if hasattr(module, "parse"):
        return module.run(_parse(module.parse, arguments))
    from jsonargparse import ArgumentParser

    function = getattr(module, name)
    # What comes after is said again, option by option.
    description = inspect.getdoc(function).partition("\n\nArgs:")[0]
    parser = ArgumentParser(prog=f"scarce {name}", description=description, exit_on_error=False)
    parser.add_function_arguments(function, as_group=False, as_positional=True)
    hints = typing.get_type_hints(function)
    # A switch may be typed alone: `--follow` is `--follow=true`.
    switches = {f"--{key}" for key, hint in hints.items() if hint is bool}
    said = [*arguments, ""][1:]
    arguments = [
        f"{argument}=true" if argument in switches and after not in ("true", "false") else argument
        for argument, after in zip(arguments, said, strict=True)
    ]
    lists = [key for key, hint in hints.items() if "list[" in str(hint)]
    required = [key for key, of in inspect.signature(function).parameters.items() if of.default is of.empty]
    if required and required[-1] in lists:
        # A command whose last required argument is a list gives it all words that are left before its options.
        words = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
        before, listed = words[: len(required) - 1], words[len(required) - 1 :]
        arguments = [*before, json.dumps(listed), *arguments[len(words) :]] if listed else arguments
    parsed = _parse(parser.parse_args, _join_lists(arguments, lists), parser)
    return function(**parser.instantiate(parsed).as_dict())


def _parse(parse, arguments: list[str], parser=None):
    from argparse import ArgumentError

    try:
        return parse(arguments)
    except ArgumentError as error:
        message = " ".join(str(error).split())
        unknown = message.partition("unrecognized arguments: --")[2].partition(" ")[0].partition("=")[0]
        known = parser or getattr(importlib.import_module(parse.__module__), "parser", lambda: None)()
        names = list(known.get_defaults().keys()) if known and unknown else []
        raise ScarceError(
            "settings that the command knows", message, f"`--help` lists them{_suggestion(unknown, names)}"
        ) from error


def _with_underscores(argument: str) -> str:
    """`--path-column=x` -> `--path_column=x`: options may be typed with dashes, Python's names cannot have them."""
    if not argument.startswith("--"):
        return argument
    option, equals, value = argument.partition("=")
    return "--" + option[2:].replace("-", "_") + equals + value


def _join_lists(arguments: list[str], lists: list[str]) -> list[str]:
    """`--images a.png b.png` -> `--images=["a.png", "b.png"]`, for the options that take lists."""
    joined: list[str] = []
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        index += 1
        if argument.startswith("--") and argument[2:] in lists:
            values = []
            while index < len(arguments) and not arguments[index].startswith("--"):
                values.append(arguments[index])
                index += 1
            argument = f"{argument}={json.dumps(values)}"
        joined.append(argument)
    return joined


def _suggestion(word: str, known: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6) if word else []
    return f" (did you mean {close[0]}?)" if close else ""


def _complain(message: str, code: int = 2) -> int:
    from rich.markup import escape

    from scarce_cxr.progress import console

    console.print(f"[bold red]scarce:[/] {escape(message)}", highlight=False, soft_wrap=True)
    return code


def _log_to_console() -> None:
    from rich.logging import RichHandler

    from scarce_cxr.progress import console

    class Handler(RichHandler):
        """Draws a table that is logged while a command works as those that it returns."""

        def render_message(self, record, message):
            return _draw(record.msg) if isinstance(record.msg, Table) else super().render_message(record, message)

    handler = Handler(console=console, show_time=False, show_path=False, show_level=False, markup=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger("scarce_cxr").setLevel(logging.INFO)


def _print_commands() -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    table = RichTable(box=None, padding=(0, 2), show_header=False)
    for name, help_ in COMMANDS.items():
        table.add_row(f"[bold cyan]scarce {name}[/]", help_)
    console = Console()
    console.print("\n[bold]scarce[/]: pretrain on unlabelled chest radiographs, and see whether it learns\n")
    console.print(table)
    console.print("\n  `scarce COMMAND --help` shows a command's options; `--json` prints its tables for machines.")
    console.print(f"  {RESEARCH_USE}\n", style="dim")


def _print_result(result: Result, as_json: bool) -> None:
    if as_json:
        content = {
            "tables": {table.title: table.records() for table in result.tables},
            "files": {what: str(path) for what, path in result.files},
            "notes": result.notes,
        }
        print(json.dumps(content, indent=2, default=str))
        return
    from rich.console import Console

    # Notes carry commands and settled recipes: they are printed as they are, to be copied.
    console = Console(highlight=False)
    for table in result.tables:
        console.print(_draw(table))
    for what, path in result.files:
        console.print(f"  [dim]{what}:[/] {path}", soft_wrap=True)
    for note in result.notes:
        console.print(note, markup=False, soft_wrap=True)


def _draw(table: Table):
    """The table for a terminal."""
    from rich.table import Table as RichTable

    drawn = RichTable(title=table.title, caption=table.note or None, title_justify="left", caption_justify="left")
    for index, column in enumerate(table.columns):
        numeric = all(isinstance(row[index], (int, float, type(None))) for row in table.rows)
        drawn.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*("" if v is None else f"{v:,.4g}" if isinstance(v, float) else str(v) for v in row))
    return drawn


if __name__ == "__main__":
    sys.exit(main())
