"""Small generated datasets in the layouts of real ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def noise(seed: int, side: int = 64) -> np.ndarray:
    """A smooth random texture, uint8 ``[side, side, 3]``."""
    coarse = np.random.default_rng(seed).integers(60, 200, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def class_tree(
    root: Path,
    classes: Sequence[str] = ("dot", "ring"),
    train: int = 6,
    test: int = 4,
    side: int = 8,
) -> Path:
    """A folder of images for each class, to train on and to test on."""
    for part, count in (("train", train), ("test", test)):
        for number, name in enumerate(classes):
            for place in range(count):
                seed = 1000 * number + 100 * (part == "test") + place
                save(root / part / name / f"{place:03d}.png", noise(seed, side))
    return root


def mvtec_tree(
    root: Path, category: str = "bolt", train: int = 6, good: int = 3, bad: int = 3, side: int = 64
) -> Path:
    """One category in MVTec AD's layout; a defect is a bright square with its mask."""
    folder = root / category
    for place in range(train):
        save(folder / "train" / "good" / f"{place:03d}.png", noise(place, side))
    for place in range(good):
        save(folder / "test" / "good" / f"{place:03d}.png", noise(100 + place, side))
    for place in range(bad):
        pixels, mask = noise(200 + place, side).copy(), np.zeros((side, side), np.uint8)
        spot = slice(side // 4 + place, side // 2 + place)
        pixels[spot, spot], mask[spot, spot] = 255, 255
        save(folder / "test" / "dent" / f"{place:03d}.png", pixels)
        save(folder / "ground_truth" / "dent" / f"{place:03d}_mask.png", mask)
    return folder


def spotted(seed: int, side: int = 64, value: int = 255) -> tuple[np.ndarray, np.ndarray]:
    """A texture with a bright square, and its mask, which holds ``value``."""
    pixels, mask = noise(seed, side).copy(), np.zeros((side, side), np.uint8)
    spot = slice(side // 4, side // 2)
    pixels[spot, spot], mask[spot, spot] = 255, value
    return pixels, mask


def save_all(folder: Path, names: Sequence[str], seed: int = 0, side: int = 64) -> None:
    """Textures of these names."""
    for place, name in enumerate(names):
        save(folder / name, noise(seed + place, side))


def mvtec_ad2_tree(root: Path, category: str = "can", side: int = 64) -> Path:
    """One category in MVTec AD 2's layout."""
    folder = root / category
    save_all(folder / "train" / "good", [f"{n:03d}_regular.png" for n in range(5)], 0, side)
    save_all(folder / "validation" / "good", [f"{n:03d}_regular.png" for n in range(4)], 20, side)
    public = folder / "test_public"
    save_all(public / "good", ["000_regular.png", "001_shift_1.png"], 40, side)
    for number, light in enumerate(("regular", "overexposed")):
        pixels, mask = spotted(60 + number, side)
        save(public / "bad" / f"{number:03d}_{light}.png", pixels)
        save(public / "ground_truth" / "bad" / f"{number:03d}_{light}_mask.png", mask)
    save_all(folder / "test_private", ["000_regular.png", "001_regular.png"], 80, side)
    save_all(folder / "test_private_mixed", ["000_mixed.png"], 90, side)
    return folder


def loco_tree(root: Path, category: str = "pushpins", side: int = 64) -> Path:
    """One category in MVTec LOCO's layout: an image with two regions, and one with one region."""
    folder = root / category
    save_all(folder / "train" / "good", ["000.png", "001.png", "002.png"], 0, side)
    save_all(folder / "validation" / "good", ["000.png", "001.png"], 20, side)
    save_all(folder / "test" / "good", ["000.png"], 40, side)
    pixels, mask = spotted(60, side, 255)
    save(folder / "test" / "logical_anomalies" / "000.png", pixels)
    marked = folder / "ground_truth" / "logical_anomalies" / "000"
    save(marked / "000.png", mask)
    save(marked / "001.png", np.where(mask[::-1, ::-1] > 0, 254, 0).astype(np.uint8))
    save(folder / "test" / "structural_anomalies" / "000.png", pixels)
    save(folder / "ground_truth" / "structural_anomalies" / "000" / "000.png", mask // 255 * 253)
    defects = [
        ("1_additional_pushpin", 255, 100, False),
        ("2_additional_pushpins", 254, 9999, False),
        ("broken", 253, 0.5, True),
    ]
    keys = ("defect_name", "pixel_value", "saturation_threshold", "relative_saturation")
    content = [dict(zip(keys, each, strict=True)) for each in defects]
    (folder / "defects_config.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def real_iad_tree(root: Path, category: str = "pcb", nested: bool = True, side: int = 64) -> Path:
    """One object of Real-IAD at two resolutions, with the tables of both views.

    The anomalous part has a defect that is visible from above alone.
    """

    def row(part: int, kind: str, view: int, masked: bool = False) -> dict[str, str | None]:
        folder = f"{'OK' if kind == 'OK' else f'NG/{kind}'}/S{part:04d}"
        name = f"{folder}/{category}_{part:04d}_{kind}_C{view}_2023"
        for size in ("realiad_256", "realiad_1024"):
            pixels, mask = spotted(10 * part + view, side)
            save(root / size / category / f"{name}.jpg", pixels if masked else noise(part, side))
            if masked:
                save(root / size / category / f"{name}.png", mask)
        keys = {"category": category, "anomaly_class": kind, "image_path": f"{name}.jpg"}
        return {**keys, "mask_path": f"{name}.png" if masked else None}

    meta = {"prefix": f"{category}/", "normal_class": "OK"}
    for folder, views in (("realiad_jsons", (1, 2)), ("realiad_jsons_sv", (1,))):
        train = [row(part, "OK", view) for part in (1, 2) for view in views]
        test = [row(3, "OK", view) for view in views]
        test += [row(4, "HS", view, masked=view == 1) for view in views]
        place = root / "realiad_jsons" / folder if nested else root / folder
        place.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"meta": meta, "train": train, "test": test})
        (place / f"{category}.json").write_text(content, encoding="utf-8")
    return root


def kolektor_tree(root: Path) -> Path:
    """KolektorSDD2's layout; of each part, the second image is anomalous, the first longer."""
    for part, first, count in (("train", 10000, 4), ("test", 20000, 3)):
        for number in range(count):
            seen = slice(98 if number == 0 else 96), slice(24, 56)
            pixels, mask = spotted(first + number, 128)
            if number != 1:
                pixels, mask = noise(first + number, 128), np.zeros_like(mask)
            save(root / part / f"{first + number}.png", pixels[seen])
            save(root / part / f"{first + number}_GT.png", mask[seen])
    return root


def vad_tree(root: Path, side: int = 64) -> Path:
    """VAD's layout, which has no masks."""
    parts = ("train/good", "train/bad", "test/good", "test/bad", "test/bad_unseen_defects")
    for number, part in enumerate(parts):
        save_all(root / "vad" / part, ["0001.png", "0002.png"], 10 * number, side)
    return root
