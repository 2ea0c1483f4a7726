"""Programs that train, evaluate and measure, and the configs that they run."""

from tron_jax.console import starting

starting.prepare()
