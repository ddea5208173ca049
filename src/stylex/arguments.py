"""From strings to a call: a function's signature and docstring are its options and their help."""

import inspect
import io
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any

import tyro

Command = Callable[..., Any]

SOURCE = (
    "what to explain: file.py:function, package.module:function, a TorchScript file, or a "
    "directory that train-classifier wrote."
)
CLASSES = "only for a TorchScript file: its classes, in the order of the logits."
FRAME, RULE = "│╭╮╰╯|+ ", "^[─-]{3,}$"  # of the box around what the parser says


def read(
    name: str, chosen: Command | dict[str, Command], strings: Sequence[str]
) -> Callable[[], Any]:
    """The call that a command line asks for.

    Args:
        name: of the command.
        chosen: its function, or the function of each of its own commands.
        strings: what stands behind the name.

    Raises:
        ValueError: an option is unknown, missing or no such value; in one line.
        SystemExit: help was asked for, and printed.
    """
    said = io.StringIO()
    several = isinstance(chosen, dict)
    parse: Any = tyro.extras.subcommand_cli_from_dict if several else tyro.cli
    later = (
        {k: _later(f) for k, f in chosen.items()} if isinstance(chosen, dict) else _later(chosen)
    )
    try:
        with redirect_stderr(said):
            return parse(later, prog=f"stylex {name}", args=strings)
    except SystemExit as end:
        if not end.code:
            raise
        line = _first_part(said.getvalue())
        raise ValueError(f"{line}; `stylex {name} --help` lists the options") from None


def _later(command: Command) -> Command:
    """The same options; called, it gives the call, so that nothing runs while parsing."""

    @wraps(command)
    def later(*given: Any, **named: Any) -> Callable[[], Any]:
        return partial(command, *given, **named)

    return later


def _first_part(said: str) -> str:
    """What the parser says in its box below the title, up to a rule, in one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)  # without colours
    below = "\n".join(line.strip(FRAME) for line in plain.splitlines()[1:])
    parts = [" ".join(part.split()) for part in re.split(RULE, below, flags=re.MULTILINE)]
    return next(filter(None, parts))


def from_strings(function: Callable[..., Any]) -> Callable[..., None]:
    """A function of the library, called with what a command line can give.

    Its own signature and docstring stay the options and their help. Only a `Classifier` is given
    by its source, with `--classes` beside it for a file that does not name them, and a list of
    names with commas.
    """
    from stylex.classifier import Classifier
    from stylex.keeping import load_classifier

    forms: dict[Any, Any] = {
        str | Path: Path,
        str | Path | None: Path | None,
        Sequence[str] | None: Annotated[str | None, tyro.conf.arg(metavar="A,B")],
        Classifier: Annotated[str, tyro.conf.arg(metavar="SOURCE", help=SOURCE)],
    }
    own = inspect.signature(function, eval_str=True).parameters
    kinds = {name: forms.get(p.annotation, p.annotation) for name, p in own.items()}
    defaults = {name: p.default for name, p in own.items()}
    if "classifier" in kinds:
        kinds["classes"] = Annotated[str | None, tyro.conf.arg(metavar="A,B", help=CLASSES)]
        defaults["classes"] = None

    def call(**given: Any) -> None:
        if given.get("classes"):
            given["classes"] = tuple(name.strip() for name in given["classes"].split(","))
        if "classifier" in given:
            classes = given.pop("classes")
            given["classifier"] = load_classifier(given["classifier"], classes=classes)
        function(**given)

    command: Any = inspect.unwrap(call)  # the tests' checks wrap functions, tyro looks inside
    command.__doc__, command.__annotations__ = function.__doc__, kinds
    command.__signature__ = inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name])
            for name in kinds
        ]
    )
    return command
