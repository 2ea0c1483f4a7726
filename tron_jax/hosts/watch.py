"""Ends a process whose peers are gone, for what it waits for will never come."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

INTERVAL = 1.0  # seconds between two signs of life
LIMIT = 20.0  # seconds without any, after which a process counts as dead
ALIVE, ENDED = "tron/alive/", "tron/ended/"


class Watch:
    """A thread that gives signs of life and looks for those of the others.

    jax has heartbeats of its own, but where they fail it aborts the process with a page
    of messages, and a collective whose peer has died may never return.
    """

    def __init__(
        self,
        client: Any,
        index: int,
        count: int,
        end: Callable[[str], object],
        *,
        interval: float,
        limit: float,
    ):
        """Starts the thread.

        Args:
          client: of jax's service, which holds words by their keys.
          index: of this process.
          count: of all.
          end: called once, from the thread, with a line of who is gone.
          interval: seconds between two signs of life.
          limit: seconds without any, after which a process counts as dead.
        """
        self._client, self._index = client, index
        self._end, self._interval, self._limit = end, interval, limit
        now = time.monotonic()
        self._heard = {i: ("", now) for i in range(count) if i != index}
        self._answered = now  # by the service, which process 0 runs
        self._over = threading.Event()
        for work in (self._beat, self._judge):
            threading.Thread(target=work, name="watch", daemon=True).start()

    def tell(self, why: str) -> None:
        """Lets the others know that this process ends, and why: a line, "" = as due."""
        with contextlib.suppress(Exception):  # where the service is gone, they see it
            self._client.key_value_set(f"{ENDED}{self._index}", why or " ")

    def close(self) -> None:
        """Stops watching."""
        self._over.set()

    def wait_for_all(self, seconds: float) -> None:
        """Waits until all have told that they end, for some seconds at most."""
        until = time.monotonic() + seconds
        with contextlib.suppress(Exception):
            while len(self._signs(ENDED)) <= len(self._heard):
                if time.monotonic() > until:
                    break
                time.sleep(0.05)

    def _beat(self) -> None:
        """Gives a sign of life and hears those of the others, time after time."""
        number = 0
        while not self._over.wait(self._interval):
            number += 1
            with contextlib.suppress(Exception):  # which _judge sees by the time
                alive = f"{ALIVE}{self._index}"
                self._client.key_value_set(alive, str(number), allow_overwrite=True)
                signs = self._signs(ALIVE)
                ended = self._signs(ENDED)
                now = time.monotonic()
                self._answered = now
                for peer, (before, _) in self._heard.items():
                    if peer in ended or signs.get(peer, "") != before:
                        self._heard[peer] = signs.get(peer, ""), now
                for peer, why in ended.items():
                    if why.strip() and peer != self._index:
                        self._give_up(f"process {peer} has ended: {why}")

    def _signs(self, folder: str) -> dict[int, str]:
        found = self._client.key_value_dir_get(folder)
        return {int(key.rpartition("/")[2]): word for key, word in found}

    def _judge(self) -> None:
        """Looks at the clock, since a word from the service may never come."""
        before = time.monotonic()
        while not self._over.wait(self._interval):
            now, asleep = time.monotonic(), time.monotonic() - before
            before = now
            if asleep > self._limit / 2:  # this one was stopped, and heard nobody
                self._answered = now
                self._heard = {i: (sign, now) for i, (sign, _) in self._heard.items()}
            silent = [i for i, (_, at) in self._heard.items() if now - at > self._limit]
            if now - self._answered > self._limit:
                silent = [0]
            if silent:
                self._give_up(
                    f"nothing is heard of process {silent[0]} for {self._limit:.0f} s"
                )

    def _give_up(self, why: str) -> None:
        if not self._over.is_set():
            self._over.set()
            self._end(why)
