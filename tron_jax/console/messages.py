"""Lines and words that programs have in common."""

import sys


def warn(message: str) -> None:
    """Prints one line that is no error but should be read."""
    print(f"warning: {message}", file=sys.stderr)


def readable(count: float) -> str:
    """Returns a number of bytes in GB, or in MB below a tenth of one."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
