"""What the command says and returns when something goes wrong."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from types import TracebackType
from typing import TextIO

from larvik import errors

#: Exit codes, most specific class first. 0 is success, 1 any other failure, 2 wrong usage.
EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (errors.InvalidArgumentError, 2),
    (errors.UnsupportedError, 2),
    (errors.NotFoundError, 3),
    (errors.UnauthenticatedError, 4),
    (errors.PermissionDeniedError, 4),
    (errors.UnavailableError, 5),
    (errors.DeadlineError, 5),
    (errors.ConflictError, 6),
    (errors.PreconditionError, 6),
    (errors.AlreadyExistsError, 6),
    (errors.CallCancelledError, 130),
    (errors.LarvikError, 1),
)


class OutputClosedError(Exception):
    """The reader of our output left (``larvik ls | head``)."""


@dataclass(slots=True)
class Ending:
    """A context in which every error becomes one line on `stream` and an exit code.

    Attributes
    ----------
    stream : text stream
        Where the line goes.
    shows_traceback : bool
        Whether errors that Larvik did not raise on purpose keep their traceback.
    """

    stream: TextIO
    shows_traceback: bool = False

    def __enter__(self) -> Ending:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, SystemExit):
            self._leave(error)
        elif isinstance(error, OutputClosedError | BrokenPipeError):
            self._leave(SystemExit(0))
        elif isinstance(error, KeyboardInterrupt):
            self.end("cancelled.", 130)
        elif isinstance(error, errors.LarvikError):
            code = next(number for kind, number in EXIT_CODES if isinstance(error, kind))
            self.end(f"{error.message} [{error.reason}]", code)
        elif error is not None and not self.shows_traceback:
            self._end_unexpected(error)

    def _leave(self, exit: SystemExit) -> None:
        """Hand over what was written, and exit."""
        if exit.code == 130:
            self.stream.write("larvik: cancelled.\n")
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            # Python would flush again as it ends, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise exit

    def _end_unexpected(self, error: BaseException) -> None:
        if isinstance(error, OSError) and error.strerror:
            self.end(f"{error.filename or 'input or output'}: {error.strerror}.", 1)
        self.end(
            f"unexpected {type(error).__name__}: {error}. This is a defect of Larvik;"
            " `larvik --debug ...` shows where it happened.",
            1,
        )

    def end(self, words: str, code: int) -> None:
        """Say why, on one line, and exit with `code`."""
        self.stream.write(f"larvik: {' '.join(words.split())}\n")
        sys.exit(code)
