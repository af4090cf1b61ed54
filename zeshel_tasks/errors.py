"""The errors that users can see, and the exit codes that tell an operator how to handle them.

    ZeshelError
    ├── ConfigError              2   a setting is wrong; a retry cannot help
    ├── DataError                3   the input is invalid; a retry cannot help
    │   └── CorruptArtifact      3   a stored object does not match its manifest
    └── TryAgain                75   a retry can help (EX_TEMPFAIL of sysexits.h)
        ├── StoreUnavailable    75   the object store or the download server does not answer
        └── Preempted           75   the stage was stopped after saving a checkpoint

Any other exception that escapes a stage is a crash (exit code 1), which the operator retries.
"""

from zeshel_tasks.text.redaction import redacted
from zeshel_tasks.text.safe_text import safe_text, told_apart

EXIT_OK = 0
EXIT_CRASH = 1
EXIT_CONFIG = 2
EXIT_DATA = 3
EXIT_TRY_AGAIN = 75

# A store's address and an S3 key may take 1,024 characters each.
_PROBLEM_CHARACTERS = 3000
_LINE_CHARACTERS = 4000  # a problem, with what was expected and what was got


class ZeshelError(Exception):
    """Base of all errors that carry a message for the user and an exit code for the operator.

    Args:
        problems: descriptions of the problems. In the message, each is one printable line of bounded length without
            secrets.
    """

    exit_code = EXIT_CRASH

    def __init__(self, *problems: str) -> None:
        super().__init__(*(safe_text(redacted(problem), _LINE_CHARACTERS) for problem in problems))

    def __str__(self) -> str:
        return "\n".join(self.args)


class ConfigError(ZeshelError):
    """A setting is unknown, of the wrong type or out of range; the message names setting, expected and got."""

    exit_code = EXIT_CONFIG


class DataError(ZeshelError):
    """The input data is broken. The message is one line of bounded length for any data.

    Args:
        problem: short description of the problem.
        file: the file as the user knows it (``mentions/train.json``).
        line: 1-based line number.
        field: the JSON field.
        expected: the expected input.
        got: the actual input; long values are shortened. ``...`` shows nothing, since None is a value of JSON.

    Attributes:
        reason: the message without the place.
    """

    exit_code = EXIT_DATA

    def __init__(
        self,
        problem: str,
        *,
        file: str | None = None,
        line: int | None = None,
        field: str | None = None,
        expected: object = None,
        got: object = ...,
    ) -> None:
        where = ":".join(str(part) for part in (file, line) if part is not None)
        message = safe_text(f"{where}: {problem}" if where else problem, _PROBLEM_CHARACTERS)
        if field is not None:
            message += f" (field {field!r})"
        if isinstance(expected, str) and isinstance(got, str):
            expected, got = told_apart(expected, got)
        difference = "" if expected is None else f"; expected {safe_text(expected)}"
        difference += "" if got is ... else f"; got {safe_text(got)}"
        super().__init__(message + difference)
        self.problem, self.file, self.line, self.field = problem, file, line, field
        self.expected, self.got = expected, got
        self.reason = safe_text(redacted(problem + difference), _LINE_CHARACTERS)


class CorruptArtifact(DataError):
    """A stored object differs in size or SHA-256 from its manifest: it is never used."""


class TryAgain(ZeshelError):
    """Something outside this process failed temporarily. The same command may succeed later."""

    exit_code = EXIT_TRY_AGAIN


class StoreUnavailable(TryAgain):
    """The store did not answer, or answered with a server error, after all retries."""


class Preempted(TryAgain):
    """The process was stopped after saving a checkpoint, from which the next attempt resumes."""
