"""The two kinds of failure a user sees, each with the exit code the command line gives it.

`raise InputError("jobs/a.yaml:3: unknown key 'learning_rte'; did you mean 'learning_rate'?")`
"""

from __future__ import annotations


class MathreasonError(Exception):
    """Something failed while the work was under way (exit code 1).

    The message is one sentence for the user: what is wrong, where, and what to do.
    """

    exit_code = 1


class InputError(MathreasonError):
    """What the user gave cannot be used: a job file, a data file, an option (exit code 2)."""

    exit_code = 2
