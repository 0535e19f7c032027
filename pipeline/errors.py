"""The two errors a user may see as one plain line; anything else that reaches the top is our bug."""

from __future__ import annotations


class UserError(Exception):
    """The call, a file or a setting is wrong: exit code 2.

    The message is one line: which key or path, what was expected, what was found, what to do.
    """


class RunError(Exception):
    """The work itself failed, although the call was right: exit code 1. The message is one line."""
