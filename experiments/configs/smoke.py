"""A small TRON that learns in under a minute on two cores; what `make demo` runs.

    python -m data_prep.synthetic --profile=diginetica --num_sessions=20000 \
        --num_items=2000 --out=demo/data
    python -m experiments.train --config=experiments/configs/smoke.py \
        --config.data.path=demo/data --workdir=demo/run
"""

from ml_collections import ConfigDict

from experiments.configs import defaults


def get_config() -> ConfigDict:
    config = defaults.default_config()
    config.model.hidden_size = 64
    config.model.feedforward_size = 64
    config.model.dropout = 0.1
    config.model.position = "from_start"
    config.negatives.num_uniform = 512
    config.negatives.num_in_batch = 63
    config.negatives.mask_hits = True
    config.loss.topk = 50
    config.optimizer.learning_rate = 2e-3
    config.train.epochs = 4
    config.train.batch_size = 64
    config.train.log_every_steps = 50
    return config
