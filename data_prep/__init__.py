"""From raw click logs to prepared data sets."""

from tron_jax.console import starting

starting.prepare()
