"""The parts that all commands share: ``-h``, ``-q``, ``-v`` and ``--debug``, plain help, errors in one format."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import Annotated, Any, cast

import typer
import typer.core

from wsi_deform.cli.console import TALK, set_talk, show_error
from wsi_deform.cli.help import MESSAGES, USUAL_EXITS, About, about_of, groups_of, with_about
from wsi_deform.errors import WsiDeformError
from wsi_deform.redact import redacted

USAGE_ERROR = 2
# Wider lines are harder to read.
MAX_HELP_WIDTH = 100

# Whatever command is not understood, and whatever else ends one; typer has no name of its own for either.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
AnyUsersError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[2])

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say errors only.", rich_help_panel=MESSAGES)]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say what happens inside.", rich_help_panel=MESSAGES)
]
Debug = Annotated[
    bool,
    typer.Option("--debug", help="Show the traceback of every error too.", rich_help_panel=MESSAGES),
]
SHARED: Mapping[str, Any] = {"quiet": Quiet, "verbose": Verbose, "debug": Debug}


class Command(typer.core.TyperCommand):
    """A command: its help shows options in groups, examples and exit codes."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, a section for each group."""
        _write_groups(self.get_params(ctx), formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write examples and exit codes."""
        about = about_of(self)
        if about.examples:
            with formatter.section("Examples"):
                for example in about.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, text in sorted(about.exits.items())])


class Group(typer.core.TyperGroup):
    """Commands; what goes wrong in any of them is said in one format."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options and the commands."""
        _write_groups(self.get_params(ctx), formatter)
        named = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, _first_sentence(each.help)) for name, each in named if each and not each.hidden]
            )

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line and end the process with its exit code."""
        run = partial(super().main, args, prog_name, complete_var, False, windows_expand_args, **extra)
        return sys.exit(_exit_code(run)) if standalone_mode else run()


def _exit_code(run: Callable[[], Any]) -> int:
    """Run a command line; its exit code."""
    set_talk(quiet=False, verbose=False, debug=False)
    try:
        # None, or the code of an early exit.
        return run() or 0
    except AnyUsersError as error:
        _show_traceback(error)
        if "NoArgsIsHelp" in type(error).__name__:
            error.show()
        else:
            show_error(_words_of(error))
        return error.exit_code
    except typer.Abort:
        show_error("stopped.")
        return 1
    except WsiDeformError as error:
        _show_traceback(error)
        show_error(str(error))
        return USAGE_ERROR


class App(typer.Typer):
    """A group of commands that all have ``-h``, ``-q``, ``-v``, ``--debug``, examples and exit codes.

    Args:
        options: As of ``typer.Typer``.
    """

    def __init__(self, **options: Any) -> None:
        context = {"help_option_names": ["-h", "--help"], "max_content_width": MAX_HELP_WIDTH}
        super().__init__(
            cls=Group,
            rich_markup_mode=None,
            no_args_is_help=True,
            pretty_exceptions_enable=False,
            context_settings=context,
            **options,
        )

    def command(  # type: ignore[override]
        self,
        name: str | None = None,
        *,
        examples: Sequence[str] = (),
        exits: Mapping[int, str] | None = None,
        **options: Any,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a command.

        Args:
            name: As it is typed; default: of the function.
            examples: Command lines for its help.
            exits: Exit codes besides 0 and 2 -> when.
            options: As of ``typer.Typer.command``.
        """
        about = About(examples=tuple(examples), exits={**USUAL_EXITS, **(exits or {})})
        register = super().command(name, **{"cls": Command, **options})

        def registered(function: Callable[..., Any]) -> Callable[..., Any]:
            register(with_about(with_shared_options(function), about))
            return function

        return registered


def with_shared_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The command with ``-q``, ``-v`` and ``--debug``, which hold for it as they do before its name."""

    @wraps(function)
    def spoken(*, quiet: bool, verbose: bool, debug: bool, **given: Any) -> Any:
        set_talk(quiet=quiet or TALK.quiet, verbose=verbose or TALK.verbose, debug=debug or TALK.debug)
        return function(**given)

    known = inspect.signature(function, eval_str=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    own = [each.replace(kind=kind) for each in known.parameters.values()]
    shared = [
        inspect.Parameter(name, kind, default=False, annotation=option) for name, option in SHARED.items()
    ]
    spoken.__signature__ = known.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    spoken.__annotations__ = {each.name: each.annotation for each in [*own, *shared]}
    return spoken


def _write_groups(parameters: Sequence[Any], formatter: Any) -> None:
    for title, entries in groups_of(parameters).items():
        with formatter.section(title):
            formatter.write_dl([(each.names, each.text) for each in entries], col_max=28)


def _first_sentence(text: str | None) -> str:
    """The first line of a help text, up to its first full stop or colon."""
    first = " ".join((text or "").split("\n\n")[0].split())
    ends = [at for at in (first.find(". "), first.find(": ")) if at >= 0]
    return f"{first[: min(ends)]}." if ends else first


def _words_of(error: typer.BadParameter) -> str:
    """What is wrong with a command line, what may have been meant, and where to read on."""
    context = getattr(error, "ctx", None)
    said = redacted(error.format_message()).strip()
    option = getattr(error, "option_name", None)
    if type(error).__name__ == "NoSuchOption" and context is not None and option:
        said = f"no such option: {redacted(option)}.{_meant(context.command, option)}"
    elif context is not None and (unknown := re.match(r"No such command '(.*?)'\.", said)):
        # Of typer and click both, or one, or none says what may have been meant.
        known = context.command.list_commands(context)
        near = difflib.get_close_matches(unknown[1], known, n=1)
        meant = f"Did you mean {near[0]}?" if near else f"Needed one of {', '.join(known)}."
        said = f"{unknown[0]} {meant}"
    # pydantic's words, of newer versions of typer.
    said = said.replace(": Value error, ", ": ")
    said = said[:1].lower() + said[1:]
    said = said if said.endswith((".", "?")) else f"{said}."
    return said if context is None else f"{said}\nTry '{context.command_path} --help'."


def _meant(command: Any, option: str) -> str:
    """The nearest option of a command, or the commands that have this one."""
    names = [name for each in command.params if not getattr(each, "hidden", False) for name in each.opts]
    near = difflib.get_close_matches(option, names, n=1)
    having = [
        name
        for name, each in getattr(command, "commands", {}).items()
        if any(option in parameter.opts for parameter in each.params)
    ]
    if having:
        return f" It is an option of {', '.join(having)}: write it after the command."
    return f" Did you mean {near[0]}?" if near else ""


def _show_traceback(error: BaseException) -> None:
    if TALK.debug:
        sys.stderr.write(redacted("".join(traceback.format_exception(error))))
