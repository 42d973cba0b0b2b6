"""A folder of images for each class."""

from __future__ import annotations

from occ_lab.data.base import image_files
from occ_lab.data.datasets.classes import ClassBenchmark, Classified, Part


class ClassFolder(ClassBenchmark):
    """Any classification data with its images in folders ``{train,test}/<class>/``."""

    layout = "train/<class>/*.png, test/<class>/*.png (or .jpg, ...)"
    source = "your own images"
    licence = "yours"
    size = "any"
    task_count = "1 a class"
    home = "data/classes"

    def available(self) -> list[str]:
        """The classes that have a folder under ``train``."""
        return sorted(folder.name for folder in self.root.glob("train/*") if folder.is_dir())

    def classified(self, part: Part) -> list[Classified]:
        """The images of each class by name, then by file name."""
        folders = sorted(folder for folder in (self.root / part).glob("*") if folder.is_dir())
        return [(folder.name, path, None) for folder in folders for path in image_files(folder)]
