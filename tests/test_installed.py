"""The commands of an installed package, run from a folder with namesakes of ours."""

import importlib
import os
import shutil
import subprocess
import sys
import tomllib

import pytest
import tiny

from experiments import python_file

SETTINGS = tomllib.loads((tiny.ROOT / "pyproject.toml").read_text())
COMMANDS = SETTINGS["project"]["scripts"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A wheel of this checkout, built and installed with its commands."""
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(tiny.ROOT / name, source)
    for package in SETTINGS["tool"]["setuptools"]["packages"]:
        folder = source.joinpath(*package.split("."))
        folder.mkdir(parents=True, exist_ok=True)
        for file in tiny.ROOT.joinpath(*package.split(".")).glob("*.py"):
            shutil.copy(file, folder)
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", f"--target={target}", str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def run(installed, tmp_path):
    """Runs a command where ``experiments`` and ``data_prep`` are somebody's."""
    for name in ("experiments", "data_prep", "tron_jax"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('another')")

    def run(name, *args):
        return subprocess.run(
            [installed / "bin" / name, *args],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def test_a_log_is_prepared_and_shown(run, tmp_path):
    rows = [f"{n // 3},{n % 3},{1_700_000_000 + n}\n" for n in range(60)]
    (tmp_path / "log.csv").write_text("s,i,t\n" + "".join(rows))
    columns = ("--session=s", "--item=i", "--time=t")
    done = run("tron-prepare", "--train=log.csv", "--out=DATA", *columns)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert "the test part is empty" in done.stderr
    done = run("tron-show-data", "DATA")
    assert (done.returncode, done.stderr) == (0, "")
    assert "whole: " in done.stdout


@pytest.mark.parametrize("config", ["tron_xl:yoochoose", "experiments.configs.smoke"])
def test_a_config_is_found(run, config):
    done = run("tron-train", f"--config={config}", "--workdir=RUN")
    assert done.returncode == 1
    assert "data.path is not set" in done.stderr


def test_a_file_of_a_sweep_is_found(run):
    done = run("tron-sweep", "--sweep=table2:diginetic", "--workdir=SWEEP", "--data=D")
    assert done.returncode == 1
    assert "sweep=table2:diginetic: " in done.stderr
    assert "no file" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_there(command):
    module, _, function = COMMANDS[command].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize(
    "command", ["tron-recommend", "tron-serve", "tron-compare", "tron-synthetic"]
)
def test_a_command_has_its_help(run, command):
    done = run(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "python -m " in done.stdout


def test_a_file_that_is_there_is_the_users(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = tiny.ROOT / "experiments" / "configs" / "smoke.py"
    assert python_file.find("smoke", "configs") == str(ours)
    assert python_file.find("smoke:x:y", "configs") == f"{ours}:x:y"
    assert python_file.find("smoke.py:x", "configs") == f"{ours}:x"
    assert python_file.find("experiments/configs/smoke.py", "configs") == str(ours)
    (tmp_path / "smoke.py").touch()
    assert python_file.find("smoke.py", "configs") == "smoke.py"


NO_FILES = ["none", "", "../sweeps/table2", "experiments/train", "a/smoke.py",
            "experiments", "experiments.py", "n" * 300, "a\0b"]  # fmt: skip


@pytest.mark.parametrize("named", [*NO_FILES, "experiments/sweeps/table2"])
def test_what_is_no_file_of_ours_stays_as_it_is(named):
    assert python_file.find(named, "configs") == named
