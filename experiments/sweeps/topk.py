"""How sensitive is TRON XL to k, and to top-k while the model is not ready for it?

    python -m experiments.sweep --sweep=experiments/sweeps/topk.py:diginetica \
        --data=DIR --workdir=SWEEP [--seeds=2]

One k from the hardest negative alone to all of them, and k falling over the first
epoch. Two epochs each, evaluated five times an epoch: a model that has learnt nothing
yet might choose badly, which the curves of the first epoch would show. The schedule
costs what 3,000 do all along: three times as much as all candidates on a CPU.
"""

from ml_collections import ConfigDict

from experiments.configs import tron_xl

EPOCHS = 2
EVALUATE_EVERY = 0.2  # epochs
FALLS_FROM, FALLS_TO = 3000, 100
SESSIONS = {"diginetica": 186_670, "yoochoose": 116_167, "otto": 12_899_779}


def sweep(dataset: str = "diginetica") -> dict[str, tuple[ConfigDict, int]]:
    """The hardest 1 to 1,000, all, and a schedule; ``yoochoose`` is its latest 64th."""
    settings = {}
    for topk in (1, 10, 100, 1000, 0):
        config = _config(dataset)
        config.loss.topk = topk
        settings[f"topk={topk or 'all'}"] = (config, 1)
    config = _config(dataset)
    config.loss.topk = FALLS_TO
    config.loss.topk_start = FALLS_FROM
    config.loss.topk_steps = SESSIONS[dataset] // config.train.batch_size
    settings[f"topk={FALLS_FROM}_to_{FALLS_TO}"] = (config, 1)
    return settings


def _config(dataset: str) -> ConfigDict:
    config = tron_xl.get_config(dataset)
    config.train.epochs = EPOCHS
    config.train.evaluate_every = EVALUATE_EVERY
    return config
