"""Speed that ``experiments.benchmark train --json`` measured, of the settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments import workdirs
from experiments.comparing.comparison import Figure
from experiments.comparing.settings import Pool
from experiments.runs.reading import SEED
from tron_jax.errors import UserError
from tron_jax.files import local_path

# A step is the same whatever these are.
BESIDE = {SEED, "train.evaluate_every", *workdirs.MAY_CHANGE}


def speeds_of(pools: Sequence[Pool], paths: Sequence[str]) -> dict[str, Figure]:
    """Reads measured speeds.

    Args:
      pools: the settings.
      paths: of files that the benchmark wrote.

    Returns:
      Sessions a second by the setting's name.

    Raises:
      UserError: where a file is no such thing, or of none of the settings.
    """
    found: dict[str, list[float]] = {}
    for path in map(local_path, paths):
        fields, data, sessions_per_s = _read(path)
        fitting = [pool for pool in pools if _fits(pool, fields, data)]
        if not fitting:
            raise UserError(
                f"--speed={path}: its config or data are of none of the settings"
            )
        for pool in fitting:
            found.setdefault(pool.name, []).append(sessions_per_s)
    for name, values in found.items():
        if len(values) > 1:
            raise UserError(f"--speed: {len(values)} files are of {name}; expected one")
    return {name: Figure(value, None, 1) for name, (value,) in found.items()}


def _read(path: Path) -> tuple[Mapping[str, object], str, float]:
    try:
        report = json.loads(path.read_text())
        speed = float(report["sessions_per_s"])
        return dict(report["fields"]), str(report["fingerprint"]), speed
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"--speed={path}: expected what `experiments.benchmark train --json` of "
            "this version writes, with fields, fingerprint and sessions_per_s"
        ) from error


def _fits(pool: Pool, fields: Mapping[str, object], data: str) -> bool:
    """Whether a step is the same; how many of them a run makes does not matter."""
    own, known = pool.runs[0], {**workdirs.ADDED, **fields}
    return data == own.fingerprint and all(
        known.get(field) == value
        for field, value in own.fields.items()
        if field not in BESIDE and (value or field in known)
    )
