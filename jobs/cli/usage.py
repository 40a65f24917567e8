"""Usage errors in one line, and help texts without line breaks inside a paragraph."""

import inspect

import typer
from typer.exceptions import TyperException

COMMAND = "billing"


def complaint(error: TyperException) -> str:
    """`billing capture: no such option --amuont; did you mean --amount?`; empty where help was shown instead."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else COMMAND
    name, option = _name(getattr(error, "param", None)), getattr(error, "option_name", "")
    match type(error).__name__:
        case "NoArgsIsHelpError":
            return ""
        case "NoSuchOption":
            nearest = getattr(error, "possibilities", None)
            return f"{path}: no such option {option}" + (f"; did you mean {nearest[0]}?" if nearest else "")
        case "MissingParameter":
            return f"{path}: {name} is missing; `{path} --help` shows an example"
        case "BadOptionUsage":
            return f"{path}: {option} {'needs a' if 'requires' in error.message else 'takes no'} value"
        case _:
            return f"{path}: {_sentence(error.message, name)}"


def let_help_flow(app: typer.Typer) -> None:
    """Join the lines of each paragraph, because Typer keeps the line breaks of a docstring."""
    for command in app.registered_commands:
        command.help = _flowing(inspect.getdoc(command.callback) or "")
    for group in app.registered_groups:
        if group.typer_instance is not None:
            let_help_flow(group.typer_instance)


def _name(parameter: object) -> str:
    """As it is written on a command line: `--amount`, the last of an option's names, or `SCOPE`."""
    if parameter is None:
        return ""
    options = [name for name in getattr(parameter, "opts", ()) if name.startswith("--")]
    return options[-1] if options else str(getattr(parameter, "metavar", None) or getattr(parameter, "name", ""))


def _sentence(message: str, name: str) -> str:
    """Typer's own messages are adapted to our line; ours stay as they are."""
    message = message.removesuffix(".").replace(". Did", "; did")
    if message.startswith("Input should be "):
        message = "must be " + message.removeprefix("Input should be ").partition(",")[0]
    elif message.startswith(("No such", "Got unexpected")):
        message = message[0].lower() + message[1:]
    return f"{name} {message}".strip()


def _flowing(help_text: str) -> str:
    """A paragraph that begins with a backspace is an example, and keeps its lines."""
    paragraphs = help_text.split("\n\n")
    return "\n\n".join(each if each.lstrip().startswith("\b") else " ".join(each.split()) for each in paragraphs)
