"""What a user can get wrong, said in one line."""


class UserError(Exception):
    """A mistake in the input: a file, a field or a flag.

    The message names it and says what was expected; entry points print it as one line
    and exit non-zero. Anything else that is raised is a fault of ours.
    """
