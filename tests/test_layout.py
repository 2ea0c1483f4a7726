"""The directions in which the packages may import each other."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOP = ("tron_jax", "experiments", "data_prep")
# What the files of a folder must not import. A config stops at experiments.train. Of
# tron_jax, data_prep may import what needs no JAX; nothing goes the other way.
BANNED = {
    "tron_jax": ("experiments", "data_prep", "ml_collections"),
    "data_prep": ("experiments", "jax", "flax", "optax", "orbax"),
    "experiments/configs": ("tron_jax", "data_prep", "jax"),
}
WITHOUT_JAX = (
    "tron_jax.errors",
    "tron_jax.files",
    "tron_jax.console",
    "tron_jax.data.catalogue",
    "tron_jax.data.sessions",
    "tron_jax.reporting.plots",
)
# What each package of data_prep may import of data_prep besides itself. The files on
# top, which a user runs, may import all of them.
ARROWS = {
    "clicks": (),
    "prepared": ("clicks",),
    "made_up": ("clicks", "prepared"),
    "pipeline": ("clicks", "prepared"),
    "reading": ("clicks",),
    "programs": ("clicks", "prepared", "pipeline", "reading"),
}
PROGRAMS = ("events", "diginetica", "yoochoose", "otto", "synthetic", "show")
# Only the models know Flax, only the files of arrays Orbax, and so on.
AT_HOME = {
    "flax": "tron_jax/models/",
    "orbax": "tron_jax/storage/array_files.py",
    "tensorboardX": "tron_jax/reporting/tensorboard.py",
    "fastapi": "experiments/serving/",
    "uvicorn": "experiments/serving/connections.py",
}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path):
    """Yields (line, module) for each import, relative ones made absolute."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            yield node.lineno, ".".join([*base, *filter(None, [node.module])])


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("folder", BANNED)
def test_packages_stay_apart(folder):
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in sources(folder)
        for line, module in imports(path)
        if any(within(module, banned) for banned in BANNED[folder])
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ARROWS)
def test_data_prep_imports_nothing_upwards(package):
    allowed = [f"data_prep.{name}" for name in (package, *ARROWS[package])]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in sources(f"data_prep/{package}")
        for line, module in imports(path)
        if within(module, "data_prep")
        and not any(within(module, name) for name in allowed)
    ]
    assert wrong == []


def test_data_prep_imports_only_what_is_listed():
    folders = {path.parent.name for path in sources("data_prep")} - {"data_prep"}
    assert folders <= set(ARROWS)
    used = {
        module
        for path in sources("data_prep")
        for _, module in imports(path)
        if within(module, "tron_jax")
    }
    allowed = {m for m in used for name in WITHOUT_JAX if within(m, name)}
    assert used - allowed == set()


def test_who_reads_logs_beside_data_prep():
    """And who makes some up, to measure."""
    users = {
        path.relative_to(ROOT / "experiments").parts[0]
        for path in sources("experiments")
        if any(within(module, "data_prep") for _, module in imports(path))
    }
    assert users == {"recommend.py", "recommending", "benchmarks", "device"}


# Prints the help of a program, and then what of some libraries that has loaded.
PRINT_HELP = """
import runpy, sys
del sys.argv[0]
try:
    runpy.run_module(f"data_prep.{sys.argv[0]}", run_name="__main__", alter_sys=True)
except SystemExit as stop:
    assert not stop.code
names = {"jax", "jaxlib", "flax", "optax", "orbax", "ml_collections", "experiments"}
print("loaded:", *names.intersection(name.partition(".")[0] for name in sys.modules))
"""


@pytest.mark.parametrize("program", PROGRAMS)
def test_data_prep_needs_no_jax(program):
    command = [sys.executable, "-c", PRINT_HELP, program, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"python -m data_prep.{program}" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded:"


@pytest.mark.parametrize("library", AT_HOME)
def test_libraries_stay_at_home(library):
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for folder in TOP
        for path in sources(folder)
        for line, module in imports(path)
        if within(module, library)
        and not str(path.relative_to(ROOT)).startswith(AT_HOME[library])
    ]
    assert wrong == []


def test_reads_imports_of_every_kind(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "tron_jax" / "data" / "sessions.py"
    path.parent.mkdir(parents=True)
    path.write_text("import a.b, c\nfrom d import e\ndef f():\n  from ..g import h\n")
    assert [module for _, module in imports(path)] == ["a.b", "c", "d", "tron_jax.g"]


def test_every_package_is_installed():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for folder in TOP
        for path in sources(folder)
        if "peers" not in path.parts  # they run from a checkout alone
    }
    assert set(config["tool"]["setuptools"]["packages"]) == found
