"""A config that was written to a file: of a workdir, a kept result or a sweep's run.

    python -m experiments.train --config=experiments/configs/stored.py:RUN/config.json \
        --config.data.path=DIR --workdir=ANOTHER

repeats that run, whatever config file and flags it began with.
"""

import json
from typing import Any

from ml_collections import ConfigDict

from experiments.configs import defaults


def get_config(path: str) -> ConfigDict:
    """Reads the file; a field that it lacks has its default."""
    content = _read(path)
    content.pop("provenance", None)
    config = defaults.default_config()
    with config.unlocked():
        for group, fields in content.items():
            if group not in config or not isinstance(fields, dict):
                raise ValueError(f"{path}: {group} is no group of config fields")
            for name, value in fields.items():
                config[group][name] = tuple(value) if isinstance(value, list) else value
    return config


def _read(path: str) -> dict[str, Any]:
    """Reads what a run wrote.

    Raises:
      ValueError: that it is none; absl makes it anew of its text, and can of no other.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, dict) or "model" not in content:
        raise ValueError(f"{path}: expected a config.json, which has a field model")
    return content
