"""From TRON XL to TRON+ by one idea at a time, on sessions held out of training.

    python -m experiments.sweep --sweep=experiments/sweeps/tron_plus.py:diginetica \
        --data=DIR --workdir=SWEEP
    python -m experiments.compare SWEEP --chain --at=best --out=PAGE

Neither computes nor shows anything of test. Diginetica has two windows of 14 days: the
last train days, and ``:diginetica_earlier``, the 14 days before, whose runs know of
nothing later. An idea that proved itself in both is in ``configs/tron_plus.py``.
"""

from ml_collections import ConfigDict

from experiments.configs import tron_plus, tron_xl

SEEDS = 2
# Shares of the latest sessions that are held out, and that are left out before.
WINDOWS = {
    "diginetica": (0.1473, 0.0),
    "diginetica_earlier": (0.1673, 0.1473),
    "yoochoose": (0.13, 0.0),
    "otto": (0.05, 0.0),
}
# Fields of TRON+ that each setting has besides those of the settings before it.
IDEAS = {
    "honest": ("negatives.mask_hits", "model.position"),
    "cosine": (
        "model.scoring",
        "model.scale",
        "model.dropout",
        "optimizer.learning_rate",
        "optimizer.schedule",
        "optimizer.schedule_epochs",
        "optimizer.schedule_end",
    ),
    "tron_plus": ("model.repeats",),
}


def sweep(window: str = "diginetica") -> dict[str, tuple[ConfigDict, int]]:
    """The path, in its order; the first setting has two ideas that cost nothing."""
    if window not in WINDOWS:
        raise ValueError(f"{window!r}; expected one of: {', '.join(WINDOWS)}")
    dataset = window.partition("_")[0]
    end = tron_plus.get_config(dataset)
    config = tron_xl.get_config(dataset)
    config.train.epochs = end.train.epochs
    config.train.evaluate_on = "validation"
    config.data.validation, config.data.without_last = WINDOWS[window]
    settings = {}
    for name, fields in IDEAS.items():
        config = config.copy_and_resolve_references()
        for field in fields:
            group, _, key = field.partition(".")
            config[group][key] = end[group][key]
        settings[name] = (config, SEEDS)
    return settings
