"""The three largest steps of the ablation again, trained until they stop rising.

    python -m experiments.sweep --data=DIR --workdir=SWEEP [--reuse=SWEEP_OF_TABLE2] \
        --sweep=experiments/sweeps/ablation_to_the_end.py:diginetica [--seeds=2]
    python -m experiments.compare SWEEP --at=best --chain --out=PAGE

After two epochs a setting that learns faster is ahead of one that would pass it later.
Of what --chain shows, three differences are single steps of the path: the others are
from one pair to the next, and of several changes at once.
"""

from ml_collections import ConfigDict

from experiments.sweeps import ablation, table2

LARGEST = ("learning_rate", "512_negatives", "16384_negatives")  # after two epochs


def sweep(dataset: str = "diginetica") -> dict[str, tuple[ConfigDict, int]]:
    """The settings before and after each step; the cheapest pair comes first."""
    path = list(ablation.sweep(dataset).items())
    settings = {}
    for step in reversed(LARGEST):
        (after,) = (i for i, (name, _) in enumerate(path) if name.startswith(step))
        for name, (config, seeds) in path[after - 1 : after + 1]:
            config.train.epochs = table2.MOST_EPOCHS
            config.train.stop_after = table2.STOP_AFTER
            settings[name] = (config, seeds)
    return settings
