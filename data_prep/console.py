"""What a program says on stderr while it works."""

import sys
import time


def warn(message: str) -> None:
    """Prints one line that is no error but should be read."""
    print(f"warning: {message}", file=sys.stderr)


class Progress:
    """One line on a terminal that says what is being done; nothing anywhere else."""

    def __init__(self) -> None:
        """Looks whether anybody watches."""
        self._shown = sys.stderr.isatty()
        self._begun = self._drawn = time.monotonic()

    def stage(self, text: str) -> None:
        """Starts a stage, such as ``reading train.csv``; counting starts anew."""
        self._begun = time.monotonic()
        self._draw(text)

    def count(self, text: str, done: int, total: int) -> None:
        """Shows how far a stage of known size is, its rate and the time left.

        Args:
          text: what is counted, in the plural.
          done: how many are finished.
          total: how many there are.
        """
        now = time.monotonic()
        if done < total and now - self._drawn < 0.2:
            return
        rate = done / max(now - self._begun, 1e-9)
        left = (total - done) / max(rate, 1e-9)
        share = 100 * done // max(total, 1)
        self._draw(f"{share:3d}% {done:,} {text}, {rate:,.0f}/s, {left:.0f} s left")

    def close(self) -> None:
        """Wipes the line, so that what is printed next starts on a clean one."""
        self._draw("")

    def _draw(self, text: str) -> None:
        self._drawn = time.monotonic()
        if self._shown:
            print(f"\r\x1b[K{text[:100]}", end="", file=sys.stderr, flush=True)
