"""Completion of commands, groups, choices, keys, values and paths, also in the shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from occ_lab.config.commands import COMMANDS
from occ_lab.config.completion import candidates, complete


def words(line: str) -> list[str]:
    return [word for word, _ in candidates(line)]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("occ-lab ", [*COMMANDS, "completion", "--help", "--version"]),
        ("occ-lab tr", ["train"]),
        ("occ-lab two", ["two-stage"]),
        ("/bin/occ-lab completion ", ["bash", "zsh", "fish"]),
        ("occ-lab train dataset=cif", ["dataset=cifar10", "dataset=cifar100"]),
        ("occ-lab train lo", ["loss=", "logger=", "loader.", "loss.", "logger."]),
        (
            "occ-lab train loader.",
            ["loader.eval_batch_size=", "loader.workers=", "loader.validation=", "loader.trim="],
        ),
        ("occ-lab train loss.norm", ["loss.normalize=", "loss.norm="]),
        ("occ-lab train loss=cfa loss.mem", ["loss.memory="]),
        ("occ-lab train loss.solver=", ["loss.solver=closed_form", "loss.solver=gradient"]),
        ("occ-lab train resume=", ["resume=true", "resume=false"]),
        ("occ-lab train -m loss=norm,pa", ["loss=norm,padim"]),
        ("occ-lab train -m 'loss=norm,pa", ["loss=norm,padim"]),
        ("occ-lab train loss._t", ["loss._target_="]),
        ("occ-lab train dataset.root=x/y", [":folder"]),
        ("occ-lab predict input=", [":file"]),
        ("occ-lab train backbone.weights=", [":file", *(f"backbone.weights={each}" for each in
          ("package", "hub", "random"))]),
        ("occ-lab train --config-dir ", [":folder"]),
        ("occ-lab train --cfg ", ["job", "hydra", "all"]),
        ("occ-lab train --config", ["--config-dir"]),
        ("occ-lab train --info explain", ["explain", "explain."]),
        ("occ-lab norm_study nor", ["norms=", "normalize="]),
        ("occ-lab data ", ["list", "download", "check"]),
        ("occ-lab data download mv", ["mvtec", "mvtec_ad2", "mvtec_loco", "mvtec_rd"]),
        ("occ-lab data check mvtec ", []),
        ("occ-lab data list --data ", [":folder"]),
        ("occ-lab cache clear --y", ["--yes"]),
        ("occ-lab report ", [":folder"]),
        ("occ-lab report a b --baseline ", []),
        ("occ-lab nothing ", []),
        ("", [*COMMANDS, "completion", "--help", "--version"]),
    ],
)  # fmt: skip
def test_what_a_word_may_become(line: str, found: list[str]) -> None:
    assert words(line) == found


def test_files_of_ones_own_are_seen(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("# My loss.\ndefaults: [norm]\nlength: 1\n")
    line = f"occ-lab train --config-dir '{tmp_path}' "
    assert list(candidates(f"{line}loss=mine")) == [("loss=mine", "My loss")]
    assert words(f"{line}loss=mine loss.len") == ["loss.length="]
    (tmp_path / "loss" / "bad.yaml").write_text(": no yaml [")
    assert words(f"{line}loss=bad loss.") == []


def test_what_is_not_asked_for_rightly(capsys: pytest.CaptureFixture[str]) -> None:
    assert complete(["tcsh"]) == 2
    assert "occ-lab completion zsh" in capsys.readouterr().err
    assert complete(["--help"]) == 0
    assert "~/.bashrc" in capsys.readouterr().out


# What a shell completes, a line each: what is typed, and the candidates.
TYPED = [
    ("occ-lab tr", {"train"}),
    ("occ-lab train dataset=cif", {"dataset=cifar10", "dataset=cifar100"}),
    ("occ-lab train loader.w", {"loader.workers="}),
    ("occ-lab train -m loss=norm,pa", {"loss=norm,padim"}),
    ("occ-lab train dataset.root=pa", {"dataset.root=parts 1"}),
    ("occ-lab predict input=p", {"input=parts 1", "input=photo.png"}),
    ("occ-lab train backbone.weights=p", {f"backbone.weights={each}" for each in
      ("package", "parts 1", "photo.png")}),
    ("occ-lab report p", {"parts 1"}),
]  # fmt: skip
# Calls the function that the shell calls, with a line and the cursor at its end.
BASH = r"""
COMP_WORDBREAKS=$' \t\n"'"'"'><=;|&(:'
eval "$(occ-lab completion bash)"
complete -p occ-lab >&2
while IFS= read -r COMP_LINE; do
    COMP_POINT=${#COMP_LINE}
    _occ_lab occ-lab
    begin="${COMP_LINE##* }"
    [[ "$begin" == *=* ]] && begin="${begin%%=*}=" || begin=""
    printf '%s\t' "${COMPREPLY[@]/#/$begin}"
    echo
done
"""
ZSH = r"""
compdef() { :; }
compadd() { shift "$(( ${@[(i)--]} ))"; printf '%s\t' "$IPREFIX"${^@}; }
_files() {
    local flag="$1"
    [[ "$flag" == -/ ]] && compadd -- ${~PREFIX}*(N/) || compadd -- ${~PREFIX}*(N)
}
eval "$(occ-lab completion zsh)"
while IFS= read -r line; do
    words=(${(s: :)line}) CURRENT=$#words PREFIX="${line##* }" IPREFIX=""
    _occ_lab
    echo
done
"""
FISH = r"""
occ-lab completion fish | source
while read line
    complete -C "$line" | string replace -r '\t.*' '' | string join \t
end
"""
SHELLS = {"bash": ["--norc", "-c", BASH], "zsh": ["-f", "-c", ZSH], "fish": ["-N", "-c", FISH]}


@pytest.mark.parametrize("shell", [each for each in SHELLS if shutil.which(each)])
@pytest.mark.skipif(os.name == "nt", reason="these shells are not of Windows")
def test_a_shell_completes(shell: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "occ-lab"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m occ_lab "$@"\n')
    command.chmod(0o755)
    place = tmp_path / "place"
    (place / "parts 1").mkdir(parents=True)
    (place / "photo.png").touch()
    done = subprocess.run(
        [shell, *SHELLS[shell]],
        input="".join(f"{line}\n" for line, _ in TYPED),
        cwd=place,
        env={**os.environ, "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = [
        {each.rstrip(" /") for each in row.split("\t") if each} for row in done.stdout.splitlines()
    ]
    assert found == [expected for _, expected in TYPED], done.stderr
