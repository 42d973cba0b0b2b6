"""A folder of images for each class."""

from __future__ import annotations

from occ_lab.data.base import Crop
from occ_lab.data.datasets.classes import ClassBenchmark, Classified, Part
from occ_lab.data.files import images_below, visible_folders


class ClassFolder(ClassBenchmark):
    """Any classification dataset with its images in or below folders ``{train,test}/<class>/``."""

    crop: Crop = "whole"
    layout = "train/<class>/*.png, test/<class>/*.png (or .jpg, ...)"
    source = "your own images"
    licence = "yours"
    size = "any"
    task_count = "1 a class"
    home = "data/classes"

    def available(self) -> list[str]:
        """The classes that have a folder under ``train``."""
        return [folder.name for folder in visible_folders(self.root / "train")]

    def classified(self, part: Part) -> list[Classified]:
        """The images of each class by name, then by file name."""
        folders = visible_folders(self.root / part)
        return [(folder.name, path, None) for folder in folders for path in images_below(folder)]
