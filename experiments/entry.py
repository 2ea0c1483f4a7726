"""How every program here starts: its memory settings, and the flags of a config."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import workdirs
from tron_jax.console import program
from tron_jax.errors import UserError

# A step's temporaries are a hundred megabytes, which glibc by default fetches from the
# kernel and gives back each time; filling in those pages costs up to half of a step on
# a CPU. These settings keep them, in huge pages; they are read when a process starts.
# One arena, since that of a thread has no room for chunks above 64 MiB.
MALLOC = ":".join(
    (
        "glibc.malloc.arena_max=1",
        "glibc.malloc.hugetlb=1",
        "glibc.malloc.mmap_max=0",
        "glibc.malloc.trim_threshold=1099511627776",
    )
)


def start(main: Callable[[Sequence[str]], int]) -> None:
    """Runs a program as a process of its own, with the memory settings it wants.

    Args:
      main: takes the command line and returns the exit status.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = MALLOC
        os.execv(sys.executable, sys.orig_argv)
    sys.exit(main(sys.argv))


def run(
    main: Callable[[flags.FlagValues], None],
    flag_values: flags.FlagValues,
    argv: Sequence[str],
) -> int:
    """``console.program.run`` for programs whose flags may hold a config."""
    return program.run(main, flag_values, _joined(argv), parse=_parse)


def define_config(flag_values: flags.FlagValues, argv: Sequence[str]) -> None:
    """Adds ``--config=FILE[:argument]`` and ``--config.group.field=value``."""
    config_flags.DEFINE_config_file(
        "config",
        help_string="Experiment: a file of experiments/configs, perhaps with :argument",
        flag_values=flag_values,
        sys_argv=_joined(argv),
    )


def read_config(named: str, fields: dict[str, Any]) -> ConfigDict:
    """Reads another config than that of the flags.

    Args:
      named: FILE[:argument].
      fields: by path, what to set in it.

    Raises:
      UserError: as for the flags.
    """
    argv = ["", f"--config={named}"]
    argv += [f"--config.{field}={value}" for field, value in fields.items()]
    flag_values = flags.FlagValues()
    define_config(flag_values, argv)
    _parse(flag_values, argv)
    return flag_values.config


def _joined(argv: Sequence[str]) -> list[str]:
    """Spells ``--config FILE`` as ``--config=FILE``, which ml_collections wants."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] in ("--config", "-config"):
            joined[-1] = f"--config={argument}"
        else:
            joined.append(argument)
    return joined


def _parse(flag_values: flags.FlagValues, argv: Sequence[str]) -> None:
    """Fills the flags; whatever a config file raises is the user's mistake too."""
    try:
        rest = flag_values(list(argv))
        if "config" in flag_values:
            _ = flag_values.config and flag_values.config.keys()  # raises if unread
    except Exception as error:
        raise UserError(_explain(flag_values, argv, error)) from error
    program.refuse_stray(rest)


def _explain(
    flag_values: flags.FlagValues, argv: Sequence[str], error: Exception
) -> str:
    """Says in one line what is wrong with a command line."""
    files = [argument for argument in argv if argument.startswith("--config=")]
    if "config" in flag_values and files:
        path = files[-1].partition("=")[2].partition(":")[0]
        if not os.path.isfile(path):
            return f"--config: no file {path!r}; expected one of experiments/configs/"
        names = [argument.lstrip("-").partition("=")[0] for argument in argv]
        for name in names:
            unknown = name.startswith("config.") and _unknown_field(files[-1], name)
            if unknown:
                return unknown
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    why = _fault_of_config(files[-1], str(error), lines[-1]) if files else None
    return why or " ".join(lines)


def _fault_of_config(config_flag: str, error: str, last_line: str) -> str | None:
    """What is wrong with a config file, where it is that."""
    for field in workdirs.RENAMED:
        name = field.rpartition(".")[2]
        if re.search(rf"""["']{name}["']""", last_line):
            return f"{config_flag}: {workdirs.hint_of_renamed(field)}"
    if "Error whilst parsing config file" not in error:
        return None
    # ml_collections quotes the whole traceback of a config file; its end says why.
    why = last_line.partition(": ")[2] or last_line
    if "has no attribute 'get_config'" in why:
        return f"{config_flag}: this file has no function get_config"
    if why.startswith("get_config() takes 0 positional"):
        return f"{config_flag}: this config takes no argument after a colon"
    return why


def _unknown_field(config_flag: str, name: str) -> str | None:
    """Lists the fields of the group where a path first fails; None if it does not."""
    if hint := workdirs.hint_of_renamed(name.removeprefix("config.")):
        return hint
    argv = ["", config_flag]
    flag_values = flags.FlagValues()
    define_config(flag_values, argv)
    try:
        flag_values(argv)
        config: Any = flag_values.config
        for part in name.split(".")[1:]:
            if isinstance(config, ConfigDict) and part not in config:
                known = ", ".join(sorted(config))
                return f"unknown config field {name}; beside it there are: {known}"
            config = config[part]
    except Exception:
        return None  # the config file itself is at fault, or the path is too long
    return None
