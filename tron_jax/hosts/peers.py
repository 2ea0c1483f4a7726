"""Words that the processes of a run pass to each other, through jax's own service.

Arrays travel by collectives of the devices, in the order in which they were dispatched.
Words do not: they may be passed while a program runs, and from another thread.
"""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Callable
from typing import Any

POLL_MS = 500  # between looks for a word, in which a signal may be handled


class Alone:
    """The only process of a run.

    Attributes:
      index: of this process.
      count: of all.
    """

    index, count = 0, 1

    def gather(self, topic: str, word: str = "") -> list[str]:
        """Exchanges a word; returns once all have given theirs.

        Args:
          topic: on which every process gives as many words in the same order.
          word: of this process.

        Returns:
          The words of all, in the order of the processes.
        """
        del topic
        return [word]


@dataclasses.dataclass(frozen=True)
class Several:
    """Processes that ``jax.distributed`` has brought together.

    They wait for each other without end: whoever is gone is seen by ``Watch``, which
    then ends the process.

    Attributes:
      client: of jax's service, which holds words by their keys.
      index: of this process.
      count: of all.
    """

    client: Any
    index: int
    count: int
    _given: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )

    def gather(self, topic: str, word: str = "") -> list[str]:
        """See ``Alone.gather``."""
        number = self._given[topic]
        self._given[topic] += 1
        self.client.key_value_set(_key(topic, number, self.index), word)
        words = [self._wait(_key(topic, number, i)) for i in range(self.count)]
        if number > 1:  # all have given their last word, so all have read those before
            self.client.key_value_delete(_key(topic, number - 2, self.index))
        return words

    def _wait(self, key: str) -> str:
        while True:
            try:
                return self.client.blocking_key_value_get(key, POLL_MS)
            except Exception as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise


Peers = Alone | Several


def first_says(
    peers: Peers, topic: str, function: Callable[..., Any], *arguments: Any
) -> Any:
    """What a function returns to process 0, which alone calls it.

    Args:
      peers: all of which call this; they go on once it is done.
      topic: see ``Alone.gather``.
      function: returns what JSON can hold.
      *arguments: of the function.
    """
    word = "" if peers.index else json.dumps(function(*arguments))
    return json.loads(peers.gather(topic, word)[0])


def _key(topic: str, number: int, index: int) -> str:
    return f"tron/{topic}/{number}/{index}"
