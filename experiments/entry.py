"""How every program here starts: its memory settings, and the flags of a config."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import python_file, workdirs
from experiments.configs.defaults import default_config
from tron_jax import jax_settings
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


_CONFIG = ("--config=", "-config=")


def start(main: Callable[[Sequence[str]], int]) -> None:
    """Runs a program that is ``__main__``, with the memory settings it wants.

    Args:
      main: takes the command line and returns the exit status.
    """
    if not _is_own_command():
        sys.exit(main(sys.argv))
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = MALLOC
        os.execv(sys.executable, sys.orig_argv)
    try:
        status = main(sys.argv)
    except Exception:
        if not jax.distributed.is_initialized():
            raise
        traceback.print_exc()
        status = 1
    # By a signal: what is still compiled in threads is of no use. Of many processes,
    # jax would wait for those that are gone.
    if status > 128 or jax.distributed.is_initialized():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, AttributeError):  # there may be none
                stream.flush()
        os._exit(status)
    sys.exit(status)


def _is_own_command() -> bool:
    """Whether the process was started for this program and its arguments.

    A notebook's ``%run -m`` makes a program ``__main__`` of the kernel's process, which
    started by another command and holds somebody's variables.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    named = [["-m", spec.name.removesuffix(".__main__")]] if spec else []
    return any(
        sys.orig_argv[-len(command) :] == command
        for command in ([*name, *sys.argv[1:]] for name in [*named, sys.argv[:1]])
    )


def run(
    main: Callable[[flags.FlagValues], int | None],
    flag_values: flags.FlagValues,
    argv: Sequence[str],
) -> int:
    """``console.program.run`` for programs that compute by JAX.

    Args:
      main: is given the parsed flags, which may hold a config; may return an exit
        status other than 0.
      flag_values: the program's flags, unparsed.
      argv: program name and arguments.

    Returns:
      The exit status: 0, what ``main`` returned, or that of ``console.program.run``.
    """
    outcome: int | None = None

    @functools.wraps(main)  # by its module, ``program.run`` finds the help
    def computing(flag_values: flags.FlagValues) -> None:
        nonlocal outcome
        try:
            with jax_settings.stated():
                outcome = main(flag_values)
        except jax.errors.JaxRuntimeError as error:
            if words := _fault_of_device(error):
                raise UserError(words) from error
            raise

    status = program.run(computing, flag_values, _joined(argv), parse=_parse)
    return status or outcome or 0


def _fault_of_device(error: jax.errors.JaxRuntimeError) -> str | None:
    """Says that a device is full or gone; None where the fault is ours."""
    kind, _, why = str(error).partition("\n")[0].partition(": ")
    if kind == "RESOURCE_EXHAUSTED":
        remedy = "lower train.batch_size or model.hidden_size"
        return f"the device has no memory left ({why}); {remedy}"
    if kind == "UNAVAILABLE":
        return f"the device is gone: {why}"
    return None


def define_config(flag_values: flags.FlagValues, argv: Sequence[str]) -> None:
    """Adds ``--config=FILE[:argument]`` and ``--config.group.field=value``."""
    config_flags.DEFINE_config_file(
        "config",
        help_string="Experiment: a file, or the name of one of experiments/configs, "
        "perhaps with :argument",
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
    argv = _joined(["", f"--config={named}"])
    argv += [f"--config.{field}={value}" for field, value in fields.items()]
    flag_values = flags.FlagValues()
    define_config(flag_values, argv)
    _parse(flag_values, argv)
    return flag_values.config


def _joined(argv: Sequence[str]) -> list[str]:
    """Spells ``--config FILE`` as ``--config=FILE``, which ml_collections wants.

    FILE may be one of ours by its name, see ``python_file.find``.
    """
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] in ("--config", "-config"):
            joined[-1] = f"--config={argument}"
        else:
            joined.append(argument)
    named = {n: a.partition("=") for n, a in enumerate(joined) if a.startswith(_CONFIG)}
    for index, (flag, equals, file) in named.items():
        joined[index] = f"{flag}{equals}{python_file.find(file, 'configs')}"
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
    named = _config_flag(argv) if "config" in flag_values else None
    if named:
        if not isinstance(flag_values.config, ConfigDict):
            raise UserError(_fault_of_returned(named, flag_values.config))
        refuse_unknown(flag_values.config)


def _config_flag(argv: Sequence[str]) -> str | None:
    """The last --config=FILE of a command line."""
    given = [argument for argument in argv if argument.startswith(_CONFIG)]
    return given[-1] if given else None


def _fault_of_returned(config_flag: str, found: Any) -> str:
    kind = type(found).__name__
    return f"{config_flag}: get_config returned {kind}; expected a ConfigDict"


def refuse_unknown(config: ConfigDict) -> None:
    """Refuses fields that nothing reads, which an unlocked config may be given.

    Counts of sources of negatives need no default; ``checks`` knows their sources.

    Raises:
      UserError: naming such a field, or a group that has none.
    """
    known = default_config()
    for group in config:
        if group not in known:
            raise UserError(
                f"unknown config field {group}; expected one of: {', '.join(known)}"
            )
        if not isinstance(config[group], ConfigDict):
            found = config[group]
            raise UserError(f"config group {group} is {found!r}; expected its fields")
        for name in {*config[group]} - {*known[group]}:
            if group == "negatives" and name.startswith("num_"):
                continue
            field = f"{group}.{name}"
            raise UserError(
                workdirs.hint_of_renamed(field)
                or f"unknown config field {field}; beside it there are: "
                f"{', '.join(sorted(known[group]))}"
            )


def _explain(
    flag_values: flags.FlagValues, argv: Sequence[str], error: Exception
) -> str:
    """Says in one line what is wrong with a command line."""
    named = _config_flag(argv)
    if "config" in flag_values and named:
        path = named.partition("=")[2].partition(":")[0]
        if not os.path.isfile(path):
            return f"--config: no file {path!r}; expected one of experiments/configs/"
        names = [argument.lstrip("-").partition("=")[0] for argument in argv]
        for name in names:
            unknown = name.startswith("config.") and _unknown_field(named, name)
            if unknown:
                return unknown
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    why = _fault_of_config(named, str(error), lines[-1]) if named else None
    return why or " ".join(lines)


def _fault_of_config(config_flag: str, error: str, last_line: str) -> str | None:
    """What is wrong with a config file, where it is that."""
    for field in workdirs.RENAMED:
        name = field.rpartition(".")[2]
        if re.search(rf"""["']{name}["']""", last_line):
            return f"{config_flag}: {workdirs.hint_of_renamed(field)}"
    if "Error whilst parsing config file" not in error:
        return _fault_where_fields_are_set(config_flag)
    # ml_collections quotes the whole traceback of a config file; its end says why.
    why = last_line.partition(": ")[2] or last_line
    if "has no attribute 'get_config'" in why:
        return f"{config_flag}: this file has no function get_config"
    if why.startswith("get_config() takes 0 positional"):
        return f"{config_flag}: this config takes no argument after a colon"
    return why


def _fault_where_fields_are_set(config_flag: str) -> str | None:
    """That there is no config to set the fields of a command line in."""
    with contextlib.suppress(UserError):
        file = python_file.run("--config", config_flag.partition("=")[2], "configs")
        found = python_file.call(file, "get_config")
        if not isinstance(found, ConfigDict):
            return _fault_of_returned(config_flag, found)
    return None


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
