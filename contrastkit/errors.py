"""The one error that a user can cause."""


class UserError(Exception):
    """Bad input. The message is one clear line: what is wrong, and what to do.

    The command line prints it and exits with code 2 (``--debug`` shows the traceback).
    """
