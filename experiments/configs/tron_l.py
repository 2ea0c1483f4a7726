"""TRON L: 8,192 uniform and 127 in-batch negatives, the hardest 100 count.

    python -m experiments.train --workdir=RUN --config.data.path=DIR \
        --config=experiments/configs/tron_l.py:diginetica

Paper, Table 2 (Recall@20 / MRR@20): Diginetica 0.537 / 0.182, Yoochoose 0.730 / 0.299,
OTTO 0.460 / 0.212. Measured on Diginetica (seven of its eight test days) on a CPU,
2026-11-28, mean of three seeds: 0.541 / 0.184 in the `paper` protocol and 0.537 / 0.182
in `exact` at the best epoch, the third (experiments/results/diginetica/table2).
"""

from ml_collections import ConfigDict

from experiments.configs import defaults


def get_config(dataset: str = "diginetica") -> ConfigDict:
    config = defaults.published(dataset)
    config.model.dropout = 0.2 if dataset == "diginetica" else 0.05
    config.negatives.num_uniform = 8192
    return config
