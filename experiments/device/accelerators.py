"""Whether there is an accelerator, and what it is."""

from __future__ import annotations

import jax

from tron_jax import devices
from tron_jax.errors import UserError


def accelerator() -> jax.Device:
    """Returns the first accelerator.

    Raises:
      UserError: if there is none; says so specially where one was asked for.
    """
    try:
        fallen = devices.warning_of_fallback()
    except UserError as error:
        fallen = str(error)
    else:
        device = jax.devices()[0]
        if device.platform != "cpu":
            return device
    why = fallen or "jax has only the CPU"
    raise UserError(f"no accelerator: {why}; expected a GPU or TPU, or --rehearse")


def refuse_other(kind: str) -> None:
    """Raises UserError where jax has another device than before: figures would lie."""
    found = jax.devices()[0].device_kind
    if found != kind:
        raise UserError(f"jax now has {found}, not {kind}")
