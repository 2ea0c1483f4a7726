"""Which checkpoint of a run is meant."""

from __future__ import annotations

from ml_collections import ConfigDict

from experiments.assembly import evaluating
from tron_jax.errors import UserError
from tron_jax.evaluation.metrics import BEST_KEY, title
from tron_jax.evaluation.protocols import PROTOCOLS
from tron_jax.storage.checkpoints import Checkpoints


def choose(
    asked: str | None,
    config: ConfigDict,
    checkpoints: Checkpoints,
    *,
    named: str = "--step",
) -> dict[str, tuple[int, str]]:
    """The checkpoint of each protocol, and in a few words why that one.

    Args:
      asked: ``best``, ``latest`` or a step, as a user types it; None = by protocol.
      config: of the run.
      checkpoints: of the run.
      named: the flag by which it is asked for.

    Raises:
      UserError: if there is none, or not the one that was asked for.
    """
    latest = checkpoints.latest_step()
    if latest is None:
        raise UserError(
            f"no checkpoint in {checkpoints.folder}; expected a trained run"
        )
    validated, judge = config.data.validation > 0, evaluating.judge(config)
    latest_choice = (latest, "latest")
    best = checkpoints.best_step()
    if best is not None:
        best_choice = (best, f"best, the highest {title(BEST_KEY)} on {judge}")
    elif asked == "best":
        raise UserError(f"no checkpoint in {checkpoints.folder} was evaluated yet")
    else:
        best_choice = (latest, "latest, as none was evaluated yet")
    if asked is None:
        return {
            name: best_choice
            if validated or protocol.checkpoint == "best"
            else latest_choice
            for name, protocol in PROTOCOLS.items()
        }
    if asked in ("best", "latest"):
        return dict.fromkeys(
            PROTOCOLS, best_choice if asked == "best" else latest_choice
        )
    if not asked.isdecimal():
        raise UserError(f"{named}={asked}: expected best, latest or a step's number")
    return dict.fromkeys(PROTOCOLS, (int(asked), f"asked for by {named}"))
