"""The command line: parse, call one function, print. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from descbench.cli import (
    batch,
    cache,
    classify,
    compare,
    convert,
    demo,
    doctor,
    embed,
    evaluate,
    explain,
    generate,
    lint,
    ls,
    report,
    score,
    whatif,
)
from descbench.errors import DescbenchError, DescbenchWarning

INTERRUPTED = 130

app = typer.Typer(
    name="descbench",
    help="Zero-shot image classification by description: a language model writes what each class looks like, a "
    "CLIP-like model scores an image against that, and a follow-up tells the best few classes apart.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("generate")(generate.command)
app.command("embed")(embed.command)
app.command("evaluate")(evaluate.command)
app.command("compare")(compare.command)
app.command("report")(report.command)
app.command("classify")(classify.command)
app.command("explain")(explain.command)
app.command("what-if")(whatif.command)
app.command("score")(score.command)
app.command("ls")(ls.command)
app.command("import")(convert.import_command)
app.command("export")(convert.export_command)
app.command("lint")(lint.command)
app.add_typer(batch.app, name="batch")
app.add_typer(cache.app, name="cache")
app.command("doctor")(doctor.command)
app.command("demo")(demo.command)


def _version(wanted: bool) -> None:
    if wanted:
        import descbench

        typer.echo(f"descbench {descbench.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run a command; every error is one line on stderr and an exit code. DESCBENCH_DEBUG=1 shows where it arose."""
    warnings.showwarning = _noter()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", DescbenchWarning)
    try:
        code = app(arguments, standalone_mode=False)
        if code == INTERRUPTED:  # typer has caught Ctrl-C
            raise KeyboardInterrupt
    except DescbenchError as error:
        code = _failed(error, str(error), error.exit_code)
    except KeyboardInterrupt:
        message = "interrupted; what was computed is kept, and the same command goes on from there"
        code = _failed(None, message, INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone, as `| head` does: nothing more to say, and no complaint at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        code = _failed(error, f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), 1)
    except Exception as error:  # noqa: BLE001 - the outermost frame: nobody else can turn it into one line
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a usage error of typer's
            error.show()
            code = error.exit_code
        else:
            hint = "This is a fault in descbench: please report it with the output of DESCBENCH_DEBUG=1."
            code = _failed(error, f"unexpected {type(error).__name__}: {error}. {hint}", 1)
    sys.exit(code or 0)


def _failed(error: BaseException | None, message: str, code: int) -> int:
    if error is not None and os.environ.get("DESCBENCH_DEBUG"):
        traceback.print_exception(error)
    typer.echo(f"error: {message}", err=True)
    return code


def _noter() -> Callable[..., None]:
    """Prints each warning once, though it is true of several runs."""
    said: set[str] = set()

    def note(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
        text = f"{'note' if issubclass(category, DescbenchWarning) else category.__name__}: {message}"
        if text not in said:
            said.add(text)
            typer.echo(text, err=True)

    return note
