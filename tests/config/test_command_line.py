"""What is wrong with a command line is said in one message, before Hydra reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from occ_lab.config.command_line import prepared
from occ_lab.config.errors import UserError, messages_alone
from occ_lab.config.start import start
from occ_lab.utils.errors import InputError

TRAIN = [
    ("dataset.catgory=bottle", "dataset.catgory: there is no such key; did you mean dataset.categ"),
    ("datset.category=bottle", "did you mean dataset.category?"),
    ("category=bottle", "did you mean dataset.category?"),
    ("dataset/root=x", "did you mean dataset.root?"),
    ("los=norm", "los: there is no such key; did you mean loss?"),
    ("loss.nrom=2", "did you mean loss.norm?"),
    ("loss.fit.optimizer.Lr=2", "did you mean loss.fit.optimizer.lr?"),
    ("lr=1", "did you mean loss.fit.optimizer.lr?"),
    ("hydra.run.dri=x", "did you mean hydra.run.dir?"),
    ("~dataset.catgory", "did you mean dataset.category?"),
    ("zzz=1", "zzz: there is no such key; --cfg job prints all, and +zzz=VALUE adds one"),
    ("loss=nrom", "loss=nrom: there is no such option; did you mean loss=norm? There are cfa, "),
    ("experiment=nco_mvtec", "did you mean experiment=noco_mvtec?"),
    ("launcher=gpu", "did you mean launcher=gpus?"),
    ("hydra/launcher=x", "pip install 'occ-lab[sweep]'"),
    ("+loss.norm=2", "+loss.norm: there is such a key already; leave out the +"),
    ("loss.norm=1,2", "commas separate the values of a sweep, which takes -m"),
    ("loss.norm=a(1", "loss.norm: the value cannot be read; quote it: 'loss.norm=\"a(1\"'"),
    ("--seed=1", "--seed=1: there is no such option; a setting is typed without dashes"),
    ("--config-dir=/nowhere/x", "--config-dir: no folder /nowhere/x"),
    ("dataset.name=../../x", "dataset.name: '../../x' cannot be the name of a folder"),
    ("dataset.name=a/b", "dataset.name: 'a/b' cannot be the name of a folder: it holds a slash"),
    ("loss.name=..", "loss.name: '..' cannot be the name of a folder"),
    ("hydra.run.dir=${nope}", "hydra.run.dir: Interpolation key 'nope' not found"),
    ("dataset.root=\udce9", "this is not UTF-8"),
]


@pytest.mark.parametrize(("typed", "said"), TRAIN)
def test_a_wrong_command_line(typed: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        prepared([typed], "train")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("predict", ["input=x"], "run is not given; name the run directory that"),
        ("predict", ["run=x"], "input is not given; name a file, a folder of images"),
        ("export", [], "run is not given"),
        (
            "train",
            ["dataset.root=/my", "parts/x"],
            "a value with spaces: 'dataset.root=/my parts/x'",
        ),
        ("train", ["seed", "=", "1"], "seed is not KEY=VALUE"),
        (
            "train",
            ["-m", "loss=norm,svd"],
            "loss=svd: there is no such option; did you mean loss=sv",
        ),
        ("train", ["-m", "loss=norm,svdd", "loss.nu2=1"], "loss.nu2: there is no such key"),
        ("stream", ["haf_life=3"], "did you mean half_life?"),
        ("two_stage", ["representation=rotaton"], "did you mean representation=rotation?"),
        ("norm_study", ["norm=[1]"], "did you mean norms?"),
        ("train", ["--config-name=trian"], "trian"),
    ],
)
def test_wrong_command_lines(name: str, arguments: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        prepared(arguments, name)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_in_place_of_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"dataset=folder dataset.normal={tmp_path}"):
        prepared([f"dataset={tmp_path}"], "train")


def test_an_output_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"hydra.run.dir: {tmp_path}/file is a file"):
        prepared([f"hydra.run.dir={tmp_path}/file/run"], "train")
    with pytest.raises(UserError, match=f"hydra.sweep.dir: {tmp_path}/file is a file"):
        prepared(["-m", "seed=1,2", f"hydra.sweep.dir={tmp_path}/file/run"], "train")


@pytest.mark.parametrize(
    "arguments",
    [
        ["seed=1"],
        ["loss.norm=2", "-m", "seed=1,2"],  # Hydra itself takes no options in between
        ["-m", "loss.norm=interval(0.1,2)", "hydra/sweeper=optuna"],
        ["-m", "loss=glob(*)", "seed=range(3)"],
        ["experiment=noco_norm_sweep", "seed=3,4"],
        ["hydra.searchpath=[file:///nowhere]", "dataset=textures"],
        ["--cfg", "job", "dataset=folder"],
        ["+dataset.mine=1", "++loss.norm=2"],
    ],
)
def test_a_right_command_line_stays_as_it_is(arguments: list[str]) -> None:
    done = prepared(arguments, "train")
    assert sorted(done) == sorted(arguments)
    assert prepared(done, "train") == done


def test_files_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("defaults: [norm]\nlength: 1\n")
    own = ["--config-dir", str(tmp_path), "loss=mine"]
    assert prepared([*own, "loss.length=2"], "train") == [*own, "loss.length=2"]
    with pytest.raises(UserError, match=r"did you mean loss\.length"):
        prepared([*own, "loss.lenght=2"], "train")


def test_a_command_ends_with_the_message_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["train", "sed=1"])
    with pytest.raises(SystemExit, match="1"):
        start(lambda cfg: pytest.fail("begun"), "train")
    assert capsys.readouterr().err == "sed: there is no such key; did you mean seed?\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InputError("norm must be > 0", part="objective"), "loss: norm must be > 0\n"),
        (UserError("seed must be"), "seed must be\n"),
        (PermissionError(13, "Permission denied", "/x"), "/x: Permission denied\n"),
    ],
)
def test_what_a_user_can_correct(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit, match="1"), messages_alone():
        raise error
    assert capsys.readouterr().err == said
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises((UserError, OSError)), messages_alone():
        raise error


def test_a_fault_of_ours_is_not_a_message() -> None:
    with pytest.raises(FileNotFoundError), messages_alone():
        Path("nowhere-at-all").read_text()
