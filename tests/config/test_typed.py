"""Paths and names arrive as they are typed on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from occ_lab.config.command_line import prepared
from occ_lab.config.composition import composed
from occ_lab.config.errors import UserError
from occ_lab.config.typed import as_typed, hydra_reads, parts

NUMBERS = ["2024_01_05", "1_0", "1.10", "007", "1e5", "inf", "true", "OFF", "null"]
PATHS = ["/data/Prüfteile", "/data/lr=0.1", "/data/a(1)", "/data/a[1]", "/data/a,b", "a b", "正常"]
PATHS += [
    "/data/O'Brien",
    '/say "x"',
    "[a]",
    "{a:1}",
    "a:b#c",
    "-x",
    "a\\",
    "x*?|%$@+",
    "choice(a,b)",
]


KEYS = ["dataset.root", "dataset.name", "backbone.weights", "cache.dir", "+dataset.mine.path"]


def no_default(key: str) -> None:
    return None


@pytest.mark.parametrize("typed", [*NUMBERS, *PATHS])
def test_hydra_reads_a_value_as_it_is_typed(typed: str) -> None:
    for key in (*KEYS, "input", "run", "output", "hydra.run.dir"):
        signed, _, value = as_typed(f"{key}={typed}", lambda key: "a default").partition("=")
        read = hydra_reads(value)
        assert signed == key
        assert (read if isinstance(read, str) else read.text) == typed


@pytest.mark.parametrize("first", range(0, len(NUMBERS + PATHS), len(KEYS)))
def test_a_value_arrives_as_it_is_typed(first: str) -> None:
    given = dict(zip(KEYS, (NUMBERS + PATHS)[first:], strict=False))
    cfg = composed("train", [f"{key}={typed}" for key, typed in given.items()])
    found = {key: OmegaConf.select(cfg, key.lstrip("+")) for key in given}
    assert found == given


@pytest.mark.parametrize(
    ("command", "key"),
    [
        ("predict", "run"),
        ("predict", "input"),
        ("export", "run"),
        ("stream", "cache.dir"),
        ("norm_study", "dataset.root"),
        ("compare", "dataset.root"),
        ("two_stage", "dataset.root"),
    ],
)
def test_so_do_those_of_other_commands(command: str, key: str) -> None:
    assert OmegaConf.select(composed(command, [f"{key}=1_0"]), key) == "1_0"


@pytest.mark.parametrize("key", ["dataset.normal", "dataset.abnormal", "dataset.masks"])
@pytest.mark.parametrize("typed", ["2024_01_05", "1.10", "~/a, b"])
def test_folders_whose_names_are_numbers_elsewhere(key: str, typed: str) -> None:
    cfg = composed("train", ["dataset=folder", f"{key}={typed}"])
    assert OmegaConf.select(cfg, key) == typed.replace("~", str(Path.home()))


def test_numbers_stay_numbers() -> None:
    assert composed("train", ["dataset.normal=4"]).dataset.normal == 4
    assert composed("predict", ["masks=true"]).masks is True
    assert composed("train", ["loss.time=3"]).loss.time == 3
    assert (
        composed(
            "train", ["dataset=folder", "dataset.normal=a", "dataset.masks=null"]
        ).dataset.masks
        is None
    )
    assert composed("export", ["output=null"]).output is None


@pytest.mark.parametrize("typed", ["~", "~/a b", '"~/a b"', "'~/a b'"])
def test_the_home_folder(typed: str) -> None:
    home = typed.strip("'\"").replace("~", str(Path.home()))
    assert composed("train", [f"dataset.root={typed}"]).dataset.root == home


def test_lists_of_names_and_paths() -> None:
    cfg = composed("train", ["dataset.category=[01,1_0,'a,b', bottle]"])
    assert list(cfg.dataset.category) == ["01", "1_0", "a,b", "bottle"]
    states = composed("stream", ["state=[~/a.safetensors,b (2).safetensors]"]).state
    assert list(states) == [f"{Path.home()}/a.safetensors", "b (2).safetensors"]
    densities = composed("two_stage", ["density=[kde,norm loss.solver=closed_form]"]).density
    assert list(densities) == ["kde", "norm loss.solver=closed_form"]


def test_commas_separate_in_a_multirun_alone() -> None:
    given = "dataset.root=/a b,~/c,'d,e'"
    sweep = as_typed(given, no_default, lambda: True)
    assert sweep == f"dataset.root=/a b,'{Path.home()}/c','d,e'"
    assert as_typed("dataset.category=1.10,007", no_default, lambda: True) == (
        "dataset.category='1.10',007"
    )
    for kept in ("dataset.root=glob(*)", "dataset.category=choice(a,b)", "seed=1,2", "loss=a,b"):
        assert as_typed(kept, no_default, lambda: True) == kept


def test_what_is_quoted_stays_so() -> None:
    for typed in ("dataset.root='a (1)'", 'dataset.root="a,b"', "dataset.name='7'", "run=a\\ b"):
        assert as_typed(typed, no_default) == typed
        assert as_typed(as_typed(typed, no_default), no_default) == typed


def test_one_name_or_several() -> None:
    with pytest.raises(UserError, match="quote one that holds a comma, 'dataset.category=\"a,b\"'"):
        as_typed("dataset.category=a,b", no_default)


def test_a_folder_called_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert as_typed("input=null", no_default) == "input=null"
    Path("null").mkdir()
    with pytest.raises(UserError, match="write input=./null"):
        as_typed("input=null", no_default)


def test_a_value_that_is_empty() -> None:
    with pytest.raises(UserError, match="dataset.root is empty; give it a value"):
        prepared(["dataset.root="], "train")


def test_values_keep_their_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTS", "/data/parts")
    assert (
        composed("train", ["dataset.root=${oc.env:PARTS}/ä (1)"]).dataset.root
        == "/data/parts/ä (1)"
    )


@pytest.mark.parametrize("text", ["a", "it's", 'say "x"', "a\\", "a\\'b", "ä,[{(=:~#"])
def test_any_text_can_be_quoted(text: str) -> None:
    line = as_typed(f"dataset.root={text}", no_default)
    read = hydra_reads(line.partition("=")[2])
    assert getattr(read, "text", read) == text


def test_what_commas_separate() -> None:
    assert parts("a(1,2),[b,c],'d,e',f'g") == ["a(1,2)", "[b,c]", "'d,e'", "f'g"]
