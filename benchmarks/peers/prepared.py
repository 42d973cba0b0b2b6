"""Images and weights in a form that both libraries read alike."""

from __future__ import annotations

import json
from pathlib import Path

import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.whole_runs import job_of
from occ_lab.backbones.weights import load_weights
from occ_lab.data.base import Benchmark
from occ_lab.data.images_dataset import TaskImages
from occ_lab.data.items import Item

MODEL = "tf_efficientnet_lite0"
LAYERS = {"blocks.1": 24, "blocks.2": 40, "blocks.4": 112}  # the default levels, their channels
SIDE = 224
EPOCHS, BATCH = 3, 4  # of CFA: a tenth of the published epochs, the published batches
WEIGHTS, ABOUT = "weights.safetensors", "backbone.json"


def prepare(data: Path, category: str, train: int, target: Path) -> None:
    """Write images as the network sees them in MVTec AD's layout, and the backbone beside them.

    Both libraries then read the same pixels, and only normalise them.

    Args:
        data: the folder of MVTec AD.
        category: one of its categories.
        train: the number of training images, evenly spaced.
        target: a new folder.
    """
    benchmark = job_of(["dataset=mvtec", f"dataset.root='{data}'"]).benchmark
    split = benchmark.split(category)
    step = max(1, len(split.train) // train)
    write(benchmark, split.train[::step][:train], target / category / "train")
    write(benchmark, split.test, target / category / "test")
    net = timm.create_model(MODEL, num_classes=0)
    load_weights(net, "package")
    wanted = timm.create_model(MODEL, features_only=True).state_dict()
    kept = {name: each for name, each in net.state_dict().items() if name in wanted}
    save_file(kept, target / WEIGHTS)
    about = {
        "category": category,
        "model": MODEL,
        "layers": list(LAYERS),
        "channels": 100,  # that PaDiM keeps, in both libraries
        "joined": sum(LAYERS.values()),
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "mean": list(net.pretrained_cfg["mean"]),
        "std": list(net.pretrained_cfg["std"]),
    }
    (target / ABOUT).write_text(json.dumps(about))


def write(benchmark: Benchmark, items: list[Item], target: Path) -> None:
    """Write images, and masks into ``ground_truth`` beside the folder."""
    images = TaskImages(benchmark, items, masks=True)
    for index, item in enumerate(items):
        kind = item.kind or "good"
        path = target / kind / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.seen(index).pixels).save(path)
        if item.label:
            mask = images.facts(index)["mask"]
            marked = Image.fromarray((255 * mask.to(torch.uint8)).numpy())
            place = target.parent / "ground_truth" / kind / f"{index:03d}_mask.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            marked.save(place)
