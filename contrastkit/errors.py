"""The error for mistakes of the user, and suggestions for mistyped names."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Invalid input. The message is one line: what is wrong, and what to do.

    The command line prints it and exits with code 2 (``--debug`` shows the traceback).
    """


def suggest(word: str, known: Iterable[str]) -> str:
    """ ", did you mean 'x'?" for the known name nearest to a mistyped one, or ""."""
    near = difflib.get_close_matches(word.lower(), list(known), n=1)
    return f", did you mean '{near[0]}'?" if near else ""
