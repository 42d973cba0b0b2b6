"""What ``occ-lab data`` tells of benchmarks."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from occ_lab.config.composition import conf_dir
from occ_lab.data.__main__ import main
from occ_lab.data.listing import configured
from tests.data.trees import mvtec_tree, noise, save

DATASETS = Path(conf_dir(), "dataset")


def test_list_names_every_benchmark_and_what_is_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mvtec_tree(tmp_path / "mpdd", "tubes")
    assert main(["list", "--data", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for name in configured(DATASETS):
        assert f"\n{name} " in printed
    (line,) = (line for line in printed.splitlines() if line.startswith("mpdd"))
    assert line.split()[1:] == ["6", "1.7", "GB", "1", "in", str(tmp_path / "mpdd")]


def test_sound_data_has_no_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mvtec_tree(tmp_path)
    assert main(["check", "mvtec", f"dataset.root={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    assert "0 problems" in printed
    assert ["bolt", "6", "3", "3", "3"] in [line.split() for line in printed.splitlines()]


def test_every_problem_has_a_line_with_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = mvtec_tree(tmp_path, "transistor")  # has published counts
    copied = folder / "test" / "good" / "copy.png"
    shutil.copy(folder / "train" / "good" / "000.png", copied)
    black = folder / "ground_truth" / "dent" / "000_mask.png"
    save(black, np.zeros((64, 64), np.uint8))
    small = folder / "ground_truth" / "dent" / "001_mask.png"
    save(small, np.full((32, 32), 255, np.uint8))
    broken = folder / "train" / "good" / "001.png"
    broken.write_bytes(broken.read_bytes()[:500])
    assert main(["check", "mvtec", f"dataset.root={tmp_path}"]) == 1
    lines = capsys.readouterr().out.splitlines()

    def told(path: Path, what: str) -> bool:
        return any(line.startswith(str(path)) and what in line for line in lines)

    assert told(folder, "6 training images, published are 213")
    assert told(folder, "4 normal test images, published are 60")
    assert told(copied, f"the same image as {folder / 'train' / 'good' / '000.png'}")
    assert told(black, "marks no pixel")
    assert told(small, "mask is 32×32, image is 64×64")
    assert told(broken, "unreadable")
    assert lines[-1].endswith(": 7 problems")


def test_images_shared_by_tasks_are_told_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "test"):
        for seed, name in enumerate(("cat", "dog")):
            save(tmp_path / part / name / "0.png", noise(seed + 10 * (part == "test"), 32))
    shutil.copy(tmp_path / "train" / "cat" / "0.png", tmp_path / "test" / "dog" / "1.png")
    assert main(["check", "class_folder", f"dataset.root={tmp_path}"]) == 1
    assert capsys.readouterr().out.count("the same image as") == 1


def test_real_counts_are_as_published(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "mvtec", f"dataset.root={shared_data}/mvtec_256"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "transistor" in line)
    assert row.split() == ["transistor", "213", "60", "40", "40", "as", "here"]
    assert main(["check", "magnetic_tile", f"dataset.root={shared_data}/magnetic_tile"]) == 1
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if "magnetic_tile  " in line)
    assert row.split()[1:4] == ["762", "190", "392"]
    assert printed.count("marks no pixel") == 4  # as published


def test_absent_data_says_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "visa", "dataset.root=/nowhere"]) == 1
    assert "dataset.root: no visa data in /nowhere" in capsys.readouterr().out
    assert main(["check", "visa", "dataset.protocl=official"]) == 1
    assert "there is no such key; did you mean dataset.protocol?" in capsys.readouterr().out
    assert main(["check", "visa", "dataset.protocol=last"]) == 1
    assert "dataset.protocol must be last_100 or official" in capsys.readouterr().out
    assert main(["download", "mvtec", "--root", "/nowhere"]) == 1
    steps = capsys.readouterr().out
    assert "no direct download" in steps
    assert "https://www.mvtec.com" in steps
    with pytest.raises(SystemExit):
        main(["check", "nothing"])


def test_a_download_is_installed_where_it_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from occ_lab.data.download import archives
    from occ_lab.data.download import fetch as download

    def install(wanted: list[download.Archive], root: Path) -> None:
        assert [archive.into for archive in wanted] == ["MNIST/raw"] * 4
        assert all(archive.checksum.startswith("md5:") for archive in wanted)
        for part in ("train", "t10k"):
            for kind in ("images-idx3", "labels-idx1"):
                path = root / "MNIST" / "raw" / f"{part}-{kind}-ubyte"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()

    monkeypatch.setattr(download, "install", install)
    assert main(["download", "mnist", "--root", str(tmp_path)]) == 0
    assert "check it: occ-lab data check mnist" in capsys.readouterr().out
    assert main(["download", "mnist", "--root", str(tmp_path)]) == 0
    assert "already" in capsys.readouterr().out
    direct = {name for name in configured(DATASETS) if archives.archives(name)}
    assert direct == {"btad", "cifar10", "cifar100", "fashion_mnist", "mnist", "visa"}


def test_what_is_skipped_and_scaled_is_printed_and_no_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        save(tmp_path / "n" / f"{number}.png", noise(number)[..., 0].astype(np.uint16) * 4)
    (tmp_path / "n" / "notes.txt").touch()
    assert main(["check", "folder", f"dataset.normal={tmp_path}/n"]) == 0
    printed = capsys.readouterr().out
    assert f"folder: 1 file is not an image and is skipped: {tmp_path}/n/notes.txt" in printed
    assert "folder: values of more than 8 bits: 0 to 1023 (10 bits) become 0 to 255" in printed
