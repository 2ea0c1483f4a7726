"""A program in many processes: how they come together, what must agree, and the end."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import jax
from absl import flags, logging

from experiments import provenance
from tron_jax.console import messages, signals
from tron_jax.errors import UserError
from tron_jax.hosts import watch
from tron_jax.hosts.peers import Alone, Peers, Several
from tron_jax.hosts.watch import Watch

APART = ("data.path", *provenance.CIRCUMSTANCES)  # which hosts may each have their own
PATIENCE = 300  # seconds for all processes to come together
FLAGS = ("coordinator", "num_processes", "process_id")


def define(flag_values: flags.FlagValues) -> None:
    """Adds the flags by which processes find each other."""
    flags.DEFINE_bool(
        "distributed",
        False,
        "One of many processes that Slurm, a TPU pod or MPI has started.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "coordinator",
        None,
        "HOST:PORT of process 0, where nobody else says so.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "num_processes", None, "How many there are.", 1, None, flag_values
    )
    flags.DEFINE_integer(
        "process_id", None, "Which this is, from 0 on.", 0, None, flag_values
    )


@contextlib.contextmanager
def joined(flag_values: flags.FlagValues) -> Generator[Peers]:
    """Brings a process together with its peers; process 0 alone speaks.

    Where one ends by a fault, or is no longer heard of, all end.

    Yields:
      The processes, one where none of the flags is given.

    Raises:
      UserError: if they cannot be brought together.
    """
    given = {name: flag_values[name].value for name in FLAGS}
    if not flag_values.distributed and all(v is None for v in given.values()):
        yield Alone()
        return
    peers = _initialize(given, distributed=flag_values.distributed)
    if peers.index:
        messages.only_errors()
        logging.set_verbosity(logging.ERROR)
    watched = Watch(
        peers.client,
        peers.index,
        peers.count,
        _end,
        interval=watch.INTERVAL,
        limit=watch.LIMIT,
    )
    try:
        yield peers
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith("RESOURCE_EXHAUSTED"):
            # As of a collective whose peer has died, which the watch will find out.
            time.sleep(2 * watch.LIMIT)
        _part(watched, peers, "a fault of its device")
        raise
    except BaseException as error:
        _part(watched, peers, _in_words(error))
        raise
    peers.gather("end")
    _part(watched, peers, "")


def _initialize(given: dict[str, Any], *, distributed: bool) -> Several:
    count, index = given["num_processes"], given["process_id"]
    if count is not None and index is not None and index >= count:
        raise UserError(
            f"--process_id is {index}; expected below --num_processes, {count}"
        )
    if given["coordinator"] is None and not distributed:
        raise UserError(
            "--num_processes, --process_id: expected --coordinator=HOST:PORT of "
            "process 0 beside them, or --distributed"
        )
    # It would handle SIGTERM itself, in C++.
    jax.config.update("jax_enable_preemption_service", False)
    _on_abort(lambda: _end(f"not all processes have come within {PATIENCE} s"))
    try:
        _waiting(
            lambda: jax.distributed.initialize(
                given["coordinator"],
                given["num_processes"],
                given["process_id"],
                initialization_timeout=PATIENCE,
            )
        )
    except (ValueError, RuntimeError) as error:
        why = str(error).partition("\n")[0].rstrip(".")
        raise UserError(
            f"the processes cannot be brought together ({why}); expected Slurm, a TPU "
            "pod or MPI, or --coordinator=HOST:PORT --num_processes=N --process_id=I"
        ) from error
    gone = "jax has given up, as it does where process 0 is gone (see above)"
    _on_abort(lambda: _end(gone))
    # jax has no public way to pass words, which orbax and others take from here too.
    from jax._src.distributed import global_state

    return Several(
        global_state.client, global_state.process_id, global_state.num_processes
    )


def _end(why: str) -> None:
    """Ends this process because of another."""
    messages.complain(f"error: {why}; the same command goes on from the last save")
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(1)


def _in_words(error: BaseException) -> str:
    """A line of why a process ends, for the others."""
    if isinstance(error, signals.Stopped):
        return signal.Signals(error.number).name
    return str(error).partition("\n")[0] or type(error).__name__


def _waiting(initialize: Callable[[], None]) -> None:
    """Brings the processes together, in a thread: a signal may end that meanwhile."""
    outcome: list[Exception | None] = []

    def work() -> None:
        try:
            initialize()
            outcome.append(None)
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(10)
    if thread.is_alive():
        messages.say("waiting for the other processes")
    while thread.is_alive():
        thread.join(0.5)
    if outcome[0] is not None:
        raise outcome[0]


def _on_abort(act: Callable[[], object]) -> None:
    """Says what is done where jax aborts this process, as it does without process 0.

    It does so at once, before the watch can know. Its client takes a callback instead,
    ``missed_heartbeat_callback``, but calls none of Python (0.10 and 0.12 end in
    ``std::bad_cast``).
    """

    def aborted(number: int) -> None:
        del number
        act()

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)
    _kept.append(handler)
    ctypes.CDLL(None).signal(int(signal.SIGABRT), handler)


_kept: list[Any] = []  # what C calls must not be collected


def _part(watched: Watch, peers: Several, why: str) -> None:
    """Leaves the others, who are told why; process 0, by which they talk, goes last."""
    watched.close()
    # Process 0 may be gone before this one is, which ends by itself: jax waits.
    _on_abort(lambda: time.sleep(10))
    watched.tell(why)
    if peers.index == 0:
        watched.wait_for_all(5 * watch.INTERVAL)


def refuse_some_devices(peers: Peers, mesh: int, named: str) -> None:
    """Raises UserError unless the devices of all processes share the table.

    Args:
      peers: the processes.
      mesh: how many devices do.
      named: the field or flag that says so.
    """
    there = jax.device_count()
    if peers.count > 1 and mesh != there:
        raise UserError(
            f"{named}={mesh} in {peers.count} processes; expected all of their {there} "
            f"devices, {named}=0"
        )


def refuse_warm_start(peers: Peers) -> None:
    """Raises UserError for a run that begins from another, which is read whole."""
    if peers.count > 1:
        raise UserError(
            f"init.workdir in {peers.count} processes; expected the first start in one "
            "process, which saves step 0, to go on from in many"
        )


def refuse_differences(peers: Peers, own: dict[str, Any]) -> None:
    """Raises UserError, on all processes, where one was started otherwise.

    Args:
      peers: the processes.
      own: what must be the same on all, by name, as JSON holds it, but for ``APART``.
    """
    own = {name: value for name, value in own.items() if name not in APART}
    first, *others = map(json.loads, peers.gather("same", json.dumps(own)))
    for index, other in enumerate(others, start=1):
        for name in [*first, *other]:
            if first.get(name) != other.get(name):
                raise UserError(
                    f"process {index} has {name}={other.get(name)}, process 0 "
                    f"{first.get(name)}; expected the same of all {peers.count}"
                )
