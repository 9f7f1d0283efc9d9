"""The one error that a user can cause, and the words that help."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message is one clear line: what is wrong, and what to do.

    The command line prints it and exits with code 2 (``--debug`` shows the traceback).
    """


def suggest(word: str, known: Iterable[str]) -> str:
    """ ", did you mean 'x'?" for the name nearest to a mistyped one, or nothing."""
    near = difflib.get_close_matches(word.lower(), list(known), n=1)
    return f", did you mean '{near[0]}'?" if near else ""
