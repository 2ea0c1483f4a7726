"""TRON XL: 16,384 uniform and 127 in-batch negatives, the hardest 100 count.

    python -m experiments.train --workdir=RUN --config.data.path=DIR \
        --config=experiments/configs/tron_xl.py:diginetica

Paper, Table 2 (Recall@20 / MRR@20): Diginetica 0.541 / 0.182, Yoochoose 0.732 / 0.302,
OTTO 0.472 / 0.219. Measured on Diginetica (seven of its eight test days) on two CPU
cores, 72 s an epoch, 2026-11-26, mean of three seeds: 0.545 / 0.186 in the `paper`
protocol and 0.541 / 0.184 in `exact` at the best epoch, the second or third, from which
on it overfits (experiments/results/diginetica/table2).
"""

from ml_collections import ConfigDict

from experiments.configs import defaults


def get_config(dataset: str = "diginetica") -> ConfigDict:
    config = defaults.published(dataset)
    config.model.dropout = 0.2 if dataset == "diginetica" else 0.05
    config.negatives.num_uniform = 16384
    return config
