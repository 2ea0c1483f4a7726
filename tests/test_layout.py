"""The directions in which the packages may import each other ."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOP = ("tron_jax", "experiments", "data_prep")
# What the files of a folder must not import. The packages meet at a ConfigDict and at
# the prepared data set's format; a config stops at experiments.train.
BANNED = {
    "tron_jax": ("experiments", "data_prep", "ml_collections"),
    "data_prep": ("experiments", "jax"),
    "experiments/configs": ("tron_jax", "data_prep", "jax"),
}
# Only the models know Flax, and only the files of arrays know Orbax.
AT_HOME = {"flax": "tron_jax/models/", "orbax": "tron_jax/storage/array_files.py"}


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
    }
    assert set(config["tool"]["setuptools"]["packages"]) == found
