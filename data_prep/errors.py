"""What a person can get wrong, told in one line."""


class UserError(Exception):
    """A mistake in the input: a file, a column or a flag.

    The message names it and says what was expected; ``entry.run`` prints it as one line
    and exits non-zero. Anything else that is raised is a fault of ours.
    """
