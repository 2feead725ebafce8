"""Every command of the shell with its arguments and options, as Markdown, from what typer knows of them."""

import re
from typing import TypeAlias

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from secateur.pipelines.markdown_tables import one_line, table

MARKUP = re.compile(r"\[/?[a-z ]*\]")
"""Rich's markup, such as [bold] and [/]."""


Parameter: TypeAlias = TyperArgument | TyperOption


def commands() -> dict[str, TyperCommand]:
    """Commands by name, in the order of the help."""
    from secateur.pipelines.cli import app

    whole = typer.main.get_command(app)
    assert isinstance(whole, TyperGroup)
    return {name: command for name, command in whole.commands.items() if isinstance(command, TyperCommand)}


def command_reference() -> str:
    """A heading, the help and a table of arguments and options for each command."""
    return "\n\n".join(command_section(name, command) for name, command in commands().items())


def command_section(name: str, command: TyperCommand) -> str:
    """One command."""
    parameters = [each for each in command.params if isinstance(each, TyperArgument | TyperOption)]
    rows = [(f"`{spelling(each)}`", default_of(each), plain(each.help or "")) for each in parameters]
    paragraphs = [plain(text) for text in (command.help or "").split("\n\n")]
    examples = [f"$ {line}" for line in map(plain, (command.epilog or "").splitlines()) if "secateur " in line]
    shown = "\n".join(["```console", *examples, "```"])
    options = table(("argument or option", "default", "what it is"), rows) if rows else "It takes nothing."
    return "\n\n".join([f"### secateur {name}", *paragraphs, options, shown])


def plain(text: str) -> str:
    """Help without colours, on one line."""
    return one_line(MARKUP.sub("", text))


def spelling(parameter: Parameter) -> str:
    """An argument by its name, an option by its spellings and what it takes."""
    if isinstance(parameter, TyperArgument):
        return parameter.metavar or (parameter.name or "").upper()
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {parameter.metavar or 'VALUE'}"


def default_of(parameter: Parameter) -> str:
    """The default as one would write it; empty where there is none."""
    if parameter.required:
        return "required"
    given = parameter.default
    return "" if given is None or isinstance(given, bool) or given in ((), []) else f"`{given}`"
