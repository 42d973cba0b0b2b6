"""Every command line of every page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from occ_lab.config.composition import conf_dir, unresolved
from occ_lab.data.listing import command_line, configured
from tests.docs.pages import PROJECT, Command, all_commands
from tests.docs.world import World

# What cannot run here is composed, so that its keys and choices exist, for these reasons.
COMPOSED = {
    "cuda": "it needs a GPU",
    "download": "it downloads",
    "experiment=": "it needs weights of the hub, and hours",
    "format=onnx": "an export takes ten seconds, and `run=model` is exported",
    "outputs/ad2": "tests/inference/test_submission.py does both",
    "launcher=": "it needs GPUs or a cluster",
    "calibration.share=": "the rate needs 64 images; tests/test_train.py has it",
    "export run=outputs/mvtec": "as `format=onnx`",
    "run=outputs/textures/cosine/DATE": "test_extending predicts, and exports nothing it may not",
    "occ-lab serve": "it serves until Ctrl-C; tests/test_serve.py does it",
    "trainer.accelerator=gpu": "it needs a GPU",
    "watch=true": "it runs until Ctrl-C; tests/test_stream.py does it",
}
EXPECTED = {  # of the made data; any other command ends with 0
    "occ-lab data check mvtec dataset.root=data/mvtec": (1, "published are"),
}
# Programs that are not of OCC Lab. The targets of make and modules of Python are looked up.
OTHERS = (
    *(".venvScriptsactivate", "cd", "curl", "git", "make", "pip", "py", "python", "python3"),
    *(".venv/bin/pre-commit", "source", "wandb"),
    *("docker", "dotnet", "g++", "./score"),  # tests/deploy/test_line.py builds the examples
)
LINES = [each for each in all_commands() if each.words[0] == "occ-lab"]


def reason(command: Command) -> str | None:
    """Why a command is only composed."""
    return next((why for part, why in COMPOSED.items() if part in str(command)), None)


@pytest.mark.parametrize("command", [each for each in LINES if not reason(each)], ids=str)
def test_a_command_runs(world: World, command: Command) -> None:
    done = world.run(command)
    code, text = EXPECTED.get(str(command), (0, ""))
    assert done.code == code, done.text
    assert text in done.text


@pytest.mark.parametrize("command", [each for each in LINES if reason(each)], ids=str)
def test_a_command_that_cannot_run_here_is_composed(command: Command) -> None:
    module, *arguments = command.words[1:]
    if module == "data":
        command_line(configured(Path(conf_dir(), "dataset"))).parse_args(arguments)
    elif "--config-dir" not in arguments:
        given = [each for each in arguments if not each.startswith(("-m", "hydra."))]
        unresolved(module.replace("-", "_"), [first_choice(each) for each in given])


def first_choice(override: str) -> str:
    """One value of an override that has several for a sweep."""
    key, _, value = override.partition("=")
    return override if value.startswith("[") else f"{key}={value.split(',')[0]}"


def test_every_reason_is_needed() -> None:
    for part in COMPOSED:
        assert any(part in str(command) for command in LINES), part


@pytest.mark.parametrize(
    "command", [each for each in all_commands() if each.words[0] != "occ-lab"], ids=str
)
def test_another_program_is_a_known_one(command: Command) -> None:
    program, *arguments = command.words
    assert program in OTHERS
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
        assert {each for each in arguments if "=" not in each} <= {*targets}
    for each in arguments:
        if each.startswith("examples/"):
            assert (PROJECT / each).is_file()
    if program == "python" and arguments[0] == "-m" and arguments[1].startswith("occ_lab"):
        assert Path(PROJECT, "src", *arguments[1].split(".")).with_suffix(".py").is_file()
