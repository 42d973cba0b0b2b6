"""``--help`` fits one screen and its examples are right; ``--info`` explains what is asked."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from occ_lab.config.commands import COMMANDS, example_lines, module_of
from occ_lab.config.composition import unresolved
from occ_lab.config.options import Options
from occ_lab.config.pages import SHOWN, help_page, info_page
from occ_lab.config.parsers import parser_of
from occ_lab.config.start import start
from occ_lab.metrics.bootstrap import RESAMPLES

CONFIGURED = [name for name, command in COMMANDS.items() if command.configured]


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def page(name: str) -> str:
    if COMMANDS[name].configured:
        return help_page(module_of(name), [])
    return parser_of(name).format_help()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_one_screen_that_begins_with_examples(name: str) -> None:
    lines = page(name).splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 100
    assert set(example_lines(name)) <= set(lines)
    assert len(COMMANDS[name].examples) == 5
    assert f"occ-lab {name}" in lines[0]


@pytest.mark.parametrize("name", CONFIGURED)
def test_help_names_groups_choices_and_the_options_that_people_change(name: str) -> None:
    text, options = page(name), Options(module_of(name))
    for group in options.groups:
        assert f"\n  {group} " in text
        choices = options.choices(group)
        every = f"... {len(choices)} in all: --info {group}"
        assert all(choice in text for choice in choices) != (every in text)
    shown = text.partition("\nOptions: ")[2].partition("\n\n")[0].splitlines()[1:]
    keys = [line.split("=")[0].strip() for line in shown]
    assert keys == [key for key in COMMANDS[name].often if key in options.keys][:SHOWN]
    assert len(keys) >= 8


def test_help_of_the_report_has_the_number_of_resamples() -> None:
    assert f"number of bootstrap resamples; default: {RESAMPLES}\n" in page("report")


def test_help_follows_the_choices_on_the_line() -> None:
    text = help_page("train", ["dataset=folder", "loss=padim"])
    assert "*folder" in text
    assert "dataset.abnormal=null" in text
    assert "hydra.run.dir=outputs/folder/padim/DATE" in text


@pytest.mark.parametrize(
    ("name", "typed"), [(name, typed) for name in COMMANDS for typed, _ in COMMANDS[name].examples]
)
def test_an_example_can_be_typed(name: str, typed: str) -> None:
    words = shlex.split(typed)
    if not COMMANDS[name].configured:
        parser_of(name).parse_args(words)
        return
    several = "-m" in words
    words = [each for each in words if "=" in each]
    unresolved(module_of(name), [each.split(",")[0] if several else each for each in words])


@pytest.mark.parametrize(
    ("name", "words", "asked", "said"),
    [
        ("train", [], "loss.norm", ["loss.norm\n", "number > 0 and <= 1e12", "default      1.0"]),
        (
            "train",
            ["loss.norm=4"],
            "loss.norm",
            ["here         4", "occ-lab train loss.norm=VALUE"],
        ),
        ("train", ["dataset=mnist"], "loss.time", ["default      auto", "integrated or auto"]),
        ("train", ["loss=cfa"], "projector.normalize", ["default      false"]),
        ("train", [], "loss=cfa", ["Lee et al. 2022", "loss.memory=official  "]),
        ("train", ["loss=cfa"], "loss", ["* cfa ", "  padim ", "loss.memory=official"]),
        ("train", [], "loss.fit", ["loss.fit.optimizer.lr=1e-3"]),
        ("train", [], "loss._target_", ["class", "occ_lab.objectives.norm.objective.Norm"]),
        ("train", [], "trainer.max_time", ["add it with  occ-lab train +trainer.max_time=VALUE"]),
        ("predict", [], "run", ["none; a value must be given"]),
        ("two_stage", [], "representation.augment.flip", ["occ-lab two-stage representation."]),
        ("stream", [], "", ["half_life=null", "dataset.category=all", "loss.norm=1.0"]),
    ],
)
def test_info(name: str, words: list[str], asked: str, said: list[str]) -> None:
    text = info_page(name, words, asked)
    assert text is not None
    assert max(map(len, text.splitlines())) <= 100
    for each in said:
        assert each in text


CLASS = '''
class Cosine:
    """The angle.

    Args:
        length: of the vectors, above 0;
            one by default.
    """

    def __init__(self, length: float = 1.0) -> None: ...
'''


def test_a_class_of_ones_own_is_explained_by_its_docstring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_cosine.py").write_text(CLASS)
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("_target_: my_cosine.Cosine\nlength: 2\n")
    line = ["train", "--config-dir", str(tmp_path), "loss=mine", "--info", "loss.length"]
    monkeypatch.setattr("sys.argv", line)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    start(lambda cfg: pytest.fail("begun"), "train")
    said = capsys.readouterr().out
    assert "of the vectors, above 0; one by default." in said
    assert "type         float" in said
    assert "default      2" in said


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("loss.nrom", "loss.nrom: there is no such option; did you mean loss.norm?\n"),
        ("datset", "datset: there is no such option; did you mean dataset?\n"),
        ("loss=nrom", "loss=nrom: there is no such option; did you mean loss=norm? There are cfa,"),
        ("zzz", "zzz: there is no such option; --info alone lists all\n"),
    ],
)
def test_what_is_not_there_gets_a_suggestion(
    asked: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["train", f"--info={asked}"])
    with pytest.raises(SystemExit, match="1"):
        start(lambda cfg: pytest.fail("begun"), "train")
    assert capsys.readouterr().err.startswith(said)
