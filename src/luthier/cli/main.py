"""The `luthier` command: its verbs (a file each) and how an error becomes one message and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import luthier
from luthier.cli import (
    check,
    evaluate,
    export,
    models,
    predict,
    prior,
    resume,
    runs,
    schema,
    serve,
    show,
    tune,
    verify,
)
from luthier.errors import LuthierError

BUG = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells count it
PIPE_CLOSED = 141  # 128 + SIGPIPE


class Verbs(TyperGroup):
    """The group of all verbs: whatever one raises ends as one message on standard error and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the verb; raises nothing but typer's own exceptions."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            # The reader has gone: what is buffered goes nowhere, or the interpreter complains at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(PIPE_CLOSED) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            # Typer shows its own exceptions (wrong usage, the end of the program) itself.
            if isinstance(error, typer.Abort) or (
                hasattr(error, "exit_code") and not isinstance(error, LuthierError)
            ):
                raise
            if ctx.params.get("debug"):
                traceback.print_exc()
            typer.echo(describe(error), err=True)
            raise typer.Exit(error.exit_code if isinstance(error, LuthierError) else BUG) from None


def describe(error: Exception) -> str:
    """What the user is told: the message and hint of a `LuthierError`, or one line about a bug."""
    if isinstance(error, LuthierError):
        return f"error: {error.message}" + (f"\n  {error.hint}" if error.hint else "")
    said = " ".join(str(error).split())
    name = type(error).__name__
    return f"error: unexpected {name}{f' ({said})' if said else ''}; run again with --debug for the traceback"


app = typer.Typer(
    name="luthier",
    cls=Verbs,
    help="Fine-tune pre-trained models on your data, within a budget: chosen, trained and proven.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (tune, predict, evaluate, export, verify, serve, runs, show, resume, models, check, schema):
    app.command(module.VERB.__name__)(module.VERB)
app.add_typer(prior.VERBS, name="prior")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"luthier {luthier.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; also after a verb.")] = False,
) -> None:
    """Fine-tune pre-trained models on your data, within a budget: chosen, trained and proven."""


def main(arguments: list[str] | None = None) -> None:
    """Ends the process with 0, 1 (a bug, or a check that says no), 2 (the user's to mend) or 130
    (interrupted)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    own = given[: given.index("--")] if "--" in given else given
    if "--debug" in own:
        given.remove("--debug")
        given.insert(0, "--debug")
    app(args=given, prog_name="luthier")


if __name__ == "__main__":
    main()
