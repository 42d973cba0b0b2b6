"""Which files of a folder are images: hidden ones, links, pipes, suffixes, names of any kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from occ_lab.data.datasets.class_folder import ClassFolder
from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.data.files import (
    files_below,
    image_files,
    image_suffixes,
    images_below,
    matching_images,
    skipped_line,
    visible_folders,
)
from tests.data.trees import class_tree, mvtec_tree


def touch(folder: Path, *names: str | bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / os.fsdecode(name)).touch()


def names(paths: list[Path], below: Path) -> list[str]:
    return [str(path.relative_to(below)) for path in paths]


def test_all_that_pillow_reads_is_an_image_and_no_page_or_film() -> None:
    usual = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
    rarer = {".jp2", ".pgm", ".ppm", ".pnm", ".pfm", ".tga", ".psd", ".ico", ".mpo", ".fits"}
    assert usual | rarer <= image_suffixes()
    assert not {".pdf", ".eps", ".ps", ".mpg", ".mp4", ".wmf", ".h5", ".txt"} & image_suffixes()


def test_hidden_and_system_folders_are_not_entered(tmp_path: Path) -> None:
    touch(tmp_path / "a", "1.png", ".2.png", "._3.png")
    for name in (".ipynb_checkpoints", ".thumbnails", "@eaDir", "__MACOSX", "#recycle"):
        touch(tmp_path / name, "x.png")
        touch(tmp_path / "a" / name, "x.png")
    assert names(images_below(tmp_path), tmp_path) == ["a/1.png"]
    assert names(visible_folders(tmp_path), tmp_path) == ["a"]
    assert names(matching_images(tmp_path / "**" / "*.png"), tmp_path) == ["a/1.png"]
    # But a folder that the user names is searched, whatever its name is.
    assert names(images_below(tmp_path / "@eaDir"), tmp_path) == ["@eaDir/x.png"]


def test_hidden_folders_are_no_task_class_or_kind(tmp_path: Path) -> None:
    mvtec_tree(tmp_path / "mv")
    mvtec_tree(tmp_path / "mv", ".trash")
    touch(tmp_path / "mv" / "bolt" / "test" / ".thumbs", "1.png")
    mvtec = MVTec("mvtec", tmp_path / "mv")
    assert mvtec.available() == ["bolt"]
    assert len(mvtec.split("bolt").test) == 6
    class_tree(tmp_path / "classes", ("dot", ".ipynb_checkpoints"))
    classes = ClassFolder(root=tmp_path / "classes")
    assert classes.tasks() == ["dot"]
    assert {item.path.parent.name for item in classes.split("dot").test} == {"dot"}


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path / "store" / "camera", "1.png", "2.png")
    touch(tmp_path / "in" / "z_real", "3.png")
    (tmp_path / "in" / "a_link").symlink_to(tmp_path / "store")
    (tmp_path / "in" / "b_again").symlink_to(tmp_path / "store" / "camera")
    (tmp_path / "in" / "c_inside").symlink_to(tmp_path / "in" / "z_real")
    (tmp_path / "in" / "z_real" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "store" / "loop").symlink_to(tmp_path / "in")
    found = ["a_link/camera/1.png", "a_link/camera/2.png", "z_real/3.png"]
    assert names(images_below(tmp_path / "in"), tmp_path / "in") == found
    assert len(matching_images(tmp_path / "in" / "**" / "*.png")) == 3
    # A file that is found itself keeps its own path.
    assert tmp_path / "in" / "z_real" / "3.png" in images_below(tmp_path / "in")


def test_a_linked_file_counts_unless_it_is_there_itself(tmp_path: Path) -> None:
    touch(tmp_path / "store", "1.png", "2.png")
    touch(tmp_path / "in", "9.png")
    (tmp_path / "in" / "1.png").symlink_to(tmp_path / "store" / "1.png")
    (tmp_path / "in" / "3.png").symlink_to(tmp_path / "store" / "1.png")
    (tmp_path / "in" / "8.png").symlink_to(tmp_path / "in" / "9.png")
    (tmp_path / "in" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    found = names(images_below(tmp_path / "in"), tmp_path / "in")
    assert found == ["1.png", "9.png", "lost.png"]  # the check before a training names the last


def test_what_is_not_an_image_is_counted_and_named(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "notes.txt", "film.mp4", "noextension", "Thumbs.db", ".DS_Store")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    touch(tmp_path / "folder.png", "2.PNG")
    found = files_below(tmp_path)
    assert names(found.images, tmp_path) == ["1.png", "folder.png/2.PNG"]
    assert names(found.skipped, tmp_path) == ["film.mp4", "noextension", "notes.txt", "pipe.png"]
    line = skipped_line([*found.skipped, Path("photo.heic"), Path("a.HEIF")])
    assert line.startswith("6 files are not images and are skipped: ")
    assert "film.mp4" in line
    assert line.endswith("and 3 more; to read HEIC (2 of them), pip install 'occ-lab[heic]'")
    assert skipped_line([]) == ""


def test_left_out_folders_do_not_count_whatever_path_leads_there(tmp_path: Path) -> None:
    touch(tmp_path / "in", "1.png")
    touch(tmp_path / "in" / "bad", "2.png")
    (tmp_path / "in" / "other").symlink_to(tmp_path / "in" / "bad")
    (tmp_path / "in" / "3.png").symlink_to(tmp_path / "in" / "bad" / "2.png")
    left_out = [tmp_path / "in" / "bad", tmp_path / "in" / "bad" / "2.png"]
    assert names(files_below(tmp_path / "in", left_out).images, tmp_path / "in") == ["1.png"]


def test_names_of_any_kind_are_found(tmp_path: Path) -> None:
    odd = ["a b.png", "[1].png", "=1+1.png", "größe.png", "图.png", "x" * 251 + ".png"]
    touch(tmp_path, *odd, b"caf\xe9.png")
    touch(tmp_path / "line [2]", "1.png")
    assert len(images_below(tmp_path)) == 8
    assert set(image_files(tmp_path)) == {
        tmp_path / os.fsdecode(each) for each in (*odd, b"caf\xe9.png")
    }


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*/1.png", ["a/1.png"]),
        ("**/*.png", ["0.png", "a/1.png", "a/b/2.png"]),
        ("**/b/*", ["a/b/2.png"]),
        ("a/**", ["a/1.png", "a/b/2.png"]),
        ("?.png", ["0.png"]),
        ("[0-9].png", ["0.png"]),
        ("a/1.png", ["a/1.png"]),
        ("nowhere/*.png", []),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, found: list[str]) -> None:
    touch(tmp_path, "0.png", "0.txt")
    touch(tmp_path / "a", "1.png")
    touch(tmp_path / "a" / "b", "2.png")
    assert names(matching_images(tmp_path / pattern), tmp_path) == found
