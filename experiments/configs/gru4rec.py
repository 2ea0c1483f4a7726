"""GRU4Rec+ as the paper runs it: bpr_max over 2,048 uniform and 31 in-batch negatives.

    python -m experiments.train --workdir=RUN --config.data.path=DIR \
        --config=experiments/configs/gru4rec.py:diginetica

Paper, Table 2 (Recall@20 / MRR@20): Diginetica 0.455 / 0.144, Yoochoose 0.725 / 0.310,
OTTO 0.443 / 0.205. Measured on Diginetica (seven of its eight test days) on two CPU
cores, 28 s an epoch, 2026-11-26, mean of three seeds: 0.444 / 0.139 at the best epoch,
0.437 / 0.138 in `exact` after 10 (experiments/results/diginetica/table2). The first
steps at this learning rate are rough, and the seed decides much: 0.432, 0.440 and 0.459
Recall@20 at best.
"""

from ml_collections import ConfigDict

from experiments.configs import defaults

EPOCHS = {"diginetica": 10, "yoochoose": 3, "otto": 1}


def get_config(dataset: str = "diginetica") -> ConfigDict:
    config = defaults.published_gru4rec(dataset)
    config.loss.name = "bpr_max"
    config.loss.penalty = 0.5
    config.loss.elu = 0.5
    config.optimizer.epsilon = 1e-10
    config.train.epochs = EPOCHS[dataset]
    return config
