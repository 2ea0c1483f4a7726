"""A config that was written to a file: of a workdir, a kept result or a sweep's run.

    python -m experiments.train --config=experiments/configs/stored.py:RUN/config.json \
        --config.data.path=DIR --workdir=ANOTHER

repeats that run, whatever config file and flags it began with.
"""

import json

from ml_collections import ConfigDict

from experiments.configs import defaults


def get_config(path: str) -> ConfigDict:
    """Reads the file; a field that it lacks has its default."""
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    if not isinstance(content, dict) or "model" not in content:
        raise ValueError(f"{path}: expected a config.json, which has a field model")
    content.pop("provenance", None)
    config = defaults.default_config()
    with config.unlocked():
        for group, fields in content.items():
            for name, value in fields.items():
                config[group][name] = tuple(value) if isinstance(value, list) else value
    return config
