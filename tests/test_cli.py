"""``occ-lab``: one door to all commands, which are those of ``python -m occ_lab.COMMAND``."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import occ_lab
from occ_lab import __main__ as cli
from occ_lab.config.commands import COMMANDS, module_of
from tests import warm
from tests.commands import command

PACKAGE = Path(occ_lab.__file__).parent


def typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """The exit code and the output of ``occ-lab ARGUMENTS`` in this process."""
    monkeypatch.setattr("sys.argv", ["occ-lab", *arguments])
    code = 0
    try:
        cli.main()
    except SystemExit as error:
        code = int(error.code or 0)
    return code, *capsys.readouterr()


def test_every_command_module_is_listed() -> None:
    modules = {"data"} if (PACKAGE / "data" / "__main__.py").is_file() else set()
    for path in PACKAGE.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path.stem != "__main__" and ast.unparse(tree).count("if __name__ == '__main__':"):
            modules.add(path.stem)
    assert modules == {module_of(name) for name in COMMANDS}


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_all_commands_are_listed(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = typed(monkeypatch, capsys, *arguments)
    assert (code, err) == (0, "")
    for name, each in COMMANDS.items():
        assert f"  {name} " in out
        assert each.summary in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("trian", "did you mean occ-lab train?"),
        ("two", "occ-lab --help lists all commands"),
        ("complete", "did you mean occ-lab completion?"),
    ],
)
def test_a_mistyped_command_gets_a_suggestion(
    name: str, meant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = typed(monkeypatch, capsys, name)
    assert (code, out) == (2, "")
    assert err == f"occ-lab {name}: there is no such command; {meant}\n"


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(monkeypatch, capsys, "--version") == (0, f"occ-lab {occ_lab.__version__}\n", "")


def test_the_console_command_is_this_function() -> None:
    project = (PACKAGE.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert '\n[project.scripts]\nocc-lab = "occ_lab.__main__:main"\n' in project


def test_answers_import_nothing_slow() -> None:
    spy = (
        "import sys; from occ_lab.__main__ import main\n"
        "for line in ('--help', '--version', 'completion bash', 'completion words occ-lab',\n"
        "             'train --help', 'predict --info run', 'cache --help', 'report --help'):\n"
        "    sys.argv = ['occ-lab', *line.split()]\n"
        "    try: main()\n"
        "    except SystemExit as end: assert not end.code, line\n"
        "    slow = {'torch', 'hydra', 'omegaconf', 'numpy', 'rich'} & set(sys.modules)\n"
        "    print('SLOW', line, slow, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", spy], capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("SLOW")]
    assert len(said) == 8
    assert all(line.endswith("set()") for line in said), said


SAME = [
    ("train", ["loss.nrom=1"], 1),
    ("train", ["--cfg", "hydra", "--package", "hydra.job"], 0),  # with the job's name
    ("predict", ["input=x"], 1),
    ("cache", ["list", "--dir", "nowhere"], 0),
    ("cache", [], 2),
    ("data", ["check", "mvtec"], 1),
    ("report", ["nowhere"], 1),
    ("norm-study", ["norm=[1]"], 1),
]


@pytest.mark.parametrize(("name", "arguments", "code"), SAME)
def test_it_is_the_same_door(name: str, arguments: list[str], code: int, tmp_path: Path) -> None:
    door = warm.run(["-m", "occ_lab", name, *arguments], tmp_path)
    assert door.returncode == code, door.stderr
    module = command(module_of(name), *arguments, cwd=tmp_path, env={"COLUMNS": "80"})
    assert (module.returncode, module.stdout, module.stderr) == (code, door.stdout, door.stderr)
