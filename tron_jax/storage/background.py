"""One piece of work at a time beside the caller's own."""

import threading
from collections.abc import Callable


class Background:
    """Runs a function in a thread and keeps what it raises for the caller."""

    def __init__(self) -> None:
        """With nothing under way."""
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    def start(self, work: Callable[[], None], name: str) -> None:
        """Starts some work; what was started before must have been waited for."""

        def keep_failure() -> None:
            try:
                work()
            except Exception as error:
                self._failure = error

        self._thread = threading.Thread(target=keep_failure, name=name)
        self._thread.start()

    def check(self) -> None:
        """Raises what the work has raised, once; never waits."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def join(self) -> None:
        """Waits for the work; does not raise."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
