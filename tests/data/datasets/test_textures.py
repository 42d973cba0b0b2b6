from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from occ_lab.data.datasets import textures
from occ_lab.data.datasets.defects import DEFECTS
from occ_lab.data.datasets.textures import CATEGORIES, COLUMNS, SIDE, Textures
from occ_lab.utils.errors import InputError

SMALL = {"train": 2, "normal": 2, "defective": 10}


def small(root: Path, **settings: int) -> Textures:
    return Textures("textures", root, **{**SMALL, **settings})


def read(path: Path | None) -> np.ndarray:
    assert path is not None
    return np.asarray(Image.open(path))


def content(folder: Path) -> dict[str, bytes]:
    """Every image below a folder, by name: its pixels, however the file is compressed."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): read(path).tobytes() for path in paths}


def clean_crop(category: str, image: Path) -> np.ndarray:
    """The crop that a defect was drawn into."""
    rng = textures.generator(0, category, image.parent.name, int(image.stem))
    return textures.crop(textures.photograph(category), "test", rng)


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Textures:
    """The benchmark as the default job uses it."""
    return Textures("textures", tmp_path_factory.mktemp("data"))


def test_every_category_is_there_before_anything_is_written(tmp_path: Path) -> None:
    benchmark = small(tmp_path / "none")
    assert benchmark.tasks() == benchmark.available() == sorted(CATEGORIES)
    assert list(tmp_path.iterdir()) == []


def test_unknown_category(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sand .* found: brick, grass, gravel"):
        Textures("textures", tmp_path, category="sand").tasks()


@pytest.mark.parametrize("key", SMALL)
def test_counts_must_be_positive(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match=f"^{key} must be at least 1, got 0"):
        small(tmp_path, **{key: 0})


@pytest.mark.parametrize("category", CATEGORIES)
def test_split_holds_what_was_asked_for(default: Textures, category: str) -> None:
    split = default.split(category)
    assert [item.label for item in split.train] == [0] * 60
    assert sum(item.label == 0 for item in split.test) == 20
    for kind in DEFECTS:
        assert sum(item.path.parent.name == kind for item in split.test) == 8
    assert all((item.mask is not None) == (item.label == 1) for item in split.test)
    assert {read(item.path).shape for item in split.train + split.test} == {(SIDE, SIDE)}


@given(st.integers(0, 2**32))
def test_train_and_test_windows_share_no_pixel(seed: int) -> None:
    photo = np.zeros((512, 512), int)
    rng = np.random.default_rng(seed)
    for mark, part in ((1, "train"), (2, "test")):
        for _ in range(5):
            top, left = textures.window(part, rng)
            view = photo[top : top + SIDE, left : left + SIDE]
            assert view.shape == (SIDE, SIDE)
            view |= mark
    assert 3 not in photo


def test_images_come_from_their_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a photograph flat in its test part, only training crops show texture, and vice versa."""
    noise = np.random.default_rng(0).integers(60, 200, (512, 512)).astype(np.uint8)
    for part, (left, right) in COLUMNS.items():
        photo = noise.copy()
        photo[:, left:right] = 128
        monkeypatch.setattr(textures, "photograph", lambda category, photo=photo: photo)
        monkeypatch.setattr(textures, "DEFECTS", {"hole": DEFECTS["hole"]})
        split = small(tmp_path / part).split("grass")
        good = [item for item in split.test if item.label == 0]
        flat, rough = (split.train, good) if part == "train" else (good, split.train)
        assert all(read(item.path).std() == 0 for item in flat)
        assert all(read(item.path).std() > 20 for item in rough)


@pytest.mark.parametrize("category", CATEGORIES)
def test_masks_are_exact(default: Textures, category: str) -> None:
    for item in default.split(category).test:
        if item.label:
            image, mask = read(item.path), read(item.mask)
            clean = clean_crop(category, item.path)
            assert set(np.unique(mask)) == {0, 255}
            assert np.array_equal(image[mask == 0], clean[mask == 0])
            assert (image != clean)[mask == 255].mean() > 0.75


@pytest.mark.parametrize("category", CATEGORIES)
def test_defects_are_small_and_large(default: Textures, category: str) -> None:
    masks = [read(item.mask) > 0 for item in default.split(category).test if item.label]
    areas = np.array([mask.mean() for mask in masks])
    assert areas.max() > 8 * areas.min()
    assert np.median(areas) < 0.05
    assert areas.max() < 0.2


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """The fraction of pairs of an anomalous and a normal image that the score ranks correctly."""
    gap = scores[labels == 1][:, None] - scores[labels == 0]
    return float(np.mean((gap > 0) + 0.5 * (gap == 0)))


@pytest.mark.parametrize("statistic", [np.mean, np.std])
@pytest.mark.parametrize("category", CATEGORIES)
def test_brightness_or_contrast_alone_tells_little(
    default: Textures, category: str, statistic: Callable[[np.ndarray], float]
) -> None:
    split = default.split(category)
    usual = np.mean([statistic(read(item.path)) for item in split.train])
    scores = np.array([abs(statistic(read(item.path)) - usual) for item in split.test])
    assert auroc(np.array([item.label for item in split.test]), scores) < 0.75


def test_pixels_are_the_same_on_every_machine(tmp_path: Path) -> None:
    """The digest was recorded once; if the pixels change on purpose, raise `VERSION` too."""
    benchmark = small(tmp_path)
    digest = hashlib.sha256()
    for category in CATEGORIES:
        benchmark.split(category)
        for name, pixels in content(benchmark.root / category).items():
            digest.update(name.encode() + pixels)
    assert digest.hexdigest() == (
        "9c9592799c95aeef2f96289a0a8ef09bfe8b8779fde6e961c9fb6f32e07c68e0"
    )


def test_larger_counts_add_images_and_change_none(tmp_path: Path) -> None:
    few, many = small(tmp_path), small(tmp_path, train=3, defective=11)
    few.split("grass")
    many.split("grass")
    before, after = content(few.root), content(many.root)
    assert before.items() < after.items()


def test_settings_never_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [
        small(tmp_path, **changed).root
        for changed in ({}, {"seed": 1}, {"train": 3}, {"normal": 3}, {"defective": 11})
    ]
    monkeypatch.setattr(textures, "VERSION", textures.VERSION + 1)
    roots.append(small(tmp_path).root)
    assert len(set(roots)) == 6
    assert {root.parent for root in roots} == {tmp_path}


def test_another_seed_draws_other_images(tmp_path: Path) -> None:
    first, other = small(tmp_path), small(tmp_path, seed=1)
    first.split("brick")
    other.split("brick")
    one, two = content(first.root), content(other.root)
    assert one.keys() == two.keys()
    assert all(one[name] != two[name] for name in one)


def test_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = small(tmp_path).split("brick")
    monkeypatch.setattr(textures, "write_category", None)
    assert small(tmp_path).split("brick") == split


def start(root: Path, setup: str = "") -> subprocess.Popen[bytes]:
    """A separate process that requests a category."""
    code = (
        "import os; from occ_lab.data.datasets import textures\n"
        f"{setup}\n"
        f"textures.Textures('textures', {str(root)!r}, **{SMALL!r}).split('gravel')"
    )
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)


def test_processes_that_want_it_at_once_do_not_clash(tmp_path: Path) -> None:
    processes = [start(tmp_path / "shared") for _ in range(3)]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    shared, alone = small(tmp_path / "shared"), small(tmp_path / "alone")
    shared.split("gravel")
    alone.split("gravel")
    assert content(shared.root) == content(alone.root)
    assert [path.name for path in shared.root.iterdir()] == ["gravel"]


def test_losing_the_race_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = small(tmp_path)
    write = textures.write_category

    def write_late(folder: Path, category: str, *settings: int) -> None:
        write(folder, category, *settings)
        write(benchmark.root / category, category, *settings)  # another process was quicker

    monkeypatch.setattr(textures, "write_category", write_late)
    assert len(benchmark.split("gravel").train) == SMALL["train"]
    assert [path.name for path in benchmark.root.iterdir()] == ["gravel"]


def test_interrupted_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = small(tmp_path)

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(textures, "draw", interrupt)
        with pytest.raises(KeyboardInterrupt):
            benchmark.split("gravel")
    assert list(benchmark.root.iterdir()) == []
    assert len(benchmark.split("gravel").test) == SMALL["normal"] + SMALL["defective"]


def test_killed_leaves_no_half_category(tmp_path: Path) -> None:
    killed = start(tmp_path, "textures.draw = lambda *arguments: os._exit(9)")
    killed.communicate()
    assert killed.returncode == 9
    benchmark = small(tmp_path)
    assert not (benchmark.root / "gravel").exists()
    assert len(benchmark.split("gravel").test) == SMALL["normal"] + SMALL["defective"]


def test_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^root: cannot write the textures images to"):
        small(tmp_path / "file").split("brick")


def test_no_torch() -> None:
    code = "import sys, occ_lab.data.datasets.textures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
