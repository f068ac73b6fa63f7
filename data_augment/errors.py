"""The one exception that means "your input is wrong, and here is what to do about it"."""


class InputError(ValueError):
    """Wrong input from the user: a file, column, value, option or missing extra.

    The message is one line that says what was given, what is allowed and what to do. The command lines print it
    without a traceback and exit with code 2; library callers may catch it as a ``ValueError``.
    """
