"""The model that serves at the moment, its queue, and how another takes its place."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from experiments.serving import limits, service
from experiments.serving.metrics import Metrics
from experiments.serving.schemas import Asked
from experiments.serving.service import Prepared, Service
from tron_jax.console.messages import say
from tron_jax.serving.batching import Batcher
from tron_jax.serving.engine import SESSIONS, Programs

NICE = 10  # of the thread that loads


class Reloading(Exception):
    """A reload is under way already."""


class Live:
    """What answers requests."""

    def __init__(
        self,
        load: Callable[[Programs], Service],
        first: Service,
        metrics: Metrics,
        *,
        room: int,
        gather: float,
    ):
        """Serves a model from now on.

        Args:
          load: loads the model that is there by now, given the programs of the one that
            serves; raises UserError.
          first: that serves until then.
          metrics: that count.
          room: sessions that may wait in the queue.
          gather: seconds for which the first of a batch waits for others at most.
        """
        self.service, self.metrics = first, metrics
        self._load, self._reloading = load, threading.Lock()
        self.batcher = Batcher(self._find, most=SESSIONS[-1], room=room, wait=gather)

    def _find(self, prepared: list[Prepared]) -> Sequence[Any]:
        self.metrics.batch(len(prepared))
        return service.find(prepared)

    async def answer(
        self, requests: Sequence[Asked], paths: Sequence[tuple[str | int, ...]]
    ) -> list[dict[str, Any]]:
        """Answers requests, all or none.

        Args:
          requests: of one client.
          paths: where each stands in what was sent.

        Raises:
          service.Refused: if one asks for what the model cannot do.
          batching.Full: if the queue has no room.
          batching.Late: if they waited too long in it.
          TimeoutError: if they were not answered in time.
        """
        now = self.service  # which may be another one while these wait
        prepared = [
            service.prepare(now, asked, path)
            for asked, path in zip(requests, paths, strict=True)
        ]
        by_model = [one for one in prepared if len(one.query.items)]
        futures = self.batcher.submit(by_model, limits.WAIT_SECONDS)
        async with asyncio.timeout(limits.ANSWER_SECONDS):
            found = iter(await asyncio.gather(*map(asyncio.wrap_future, futures)))
        return [
            service.answer(one, next(found) if len(one.query.items) else None)
            for one in prepared
        ]

    def hangs(self) -> bool:
        """Whether nothing is answered any more."""
        return self.batcher.stuck(limits.ANSWER_SECONDS)

    async def reload(self) -> Service:
        """Loads the model anew in a thread, while the one that serves does.

        Raises:
          Reloading: if that is under way already.
          UserError: if it cannot serve; the old one goes on.
        """
        if not self._reloading.acquire(blocking=False):
            raise Reloading
        done: Future[Service] = Future()
        known = self.service.engine.programs

        def load() -> None:
            _step_back()
            try:
                done.set_result(self._load(known))
            except BaseException as error:
                done.set_exception(error)
            finally:
                self._reloading.release()

        # A daemon, so that the server need not wait for it when it ends.
        threading.Thread(target=load, name="reload", daemon=True).start()
        try:
            new = await asyncio.wrap_future(done)
        except Exception:
            self.metrics.reload("failed")
            raise
        self.service = new
        self.metrics.reload("done")
        say(f"step {new.about['step']:,} serves now")
        return new

    def close(self) -> None:
        """Answers what waits, and takes no more."""
        self.batcher.close()


def _step_back() -> None:
    """Leaves this thread what the threads that answer do not need of the cores."""
    if sys.platform == "linux":  # where a thread has a niceness of its own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
