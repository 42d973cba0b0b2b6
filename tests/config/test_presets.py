"""The presets of the papers: each composes as published and runs two steps on made data."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from occ_lab.backbones import lenet
from occ_lab.backbones.timm import choose_strides, timm_model
from occ_lab.config.composition import build, composed, conf_dir, unresolved
from occ_lab.config.job import make_job
from occ_lab.config.two_stage import representation_plan
from occ_lab.engine.representation import check_side
from occ_lab.engine.single_fit import fit_without
from occ_lab.reporting.tables.results import published_line
from tests.backbones.tiny import TINY
from tests.config.test_composition import open_values
from tests.data.trees import class_tree, mvtec_tree, noise, save
from tests.pretraining.representations import losses

FILES = {path.stem: path for path in sorted(Path(conf_dir(), "experiment").glob("*.yaml"))}
OF_STAGES = [name for name in FILES if name.startswith("sohn_")]
ONE_PASS = {"anomalydino": [11], "subspacead": list(range(22, 29))}  # and the blocks they take
OF_TRAIN = [name for name in FILES if name not in (*OF_STAGES, *ONE_PASS, "oracle_search")]
FRAMES = {  # resize and crop of the datasets of classes, and of parts
    "noco_cifar10": (256, 224),
    "noco_cifar100": (256, 224),
    "noco_mnist": (256, 224),
    "noco_fashion_mnist": (256, 224),
    "noco_cats_and_dogs": (256, 224),
    "noco_mvtec": (256, 224),
    "cfa_mvtec": (256, 224),
    "cfa_mvtec_resized": (256, 256),
    "deep_svdd_mnist_full": (28, 28),
    "deep_svdd_cifar10": (32, 32),
    "sohn_cifar10_rotation": (32, 32),
    "sohn_cats_and_dogs_contrastive_da": (64, 64),
    "sohn_celeba_rotation": (64, 64),
}
CHANNELS = {  # of the levels that a preset's backbone gives, and of its projector
    "noco_mvtec": (1792, 1792),
    "cfa_mvtec_resnet18": (448, 448),
    "cfa_mvtec_vgg19": (1280, 1280),
    "cfa_mvtec_vgg19_code": (1280, 1280),
    "cfa_mvtec_efficientnet_b5": (568, 1136),
}

MODULES = {  # of VGG-19: the last ReLU before each max-pooling, or as the code of CFA has them
    "cfa_mvtec_vgg19": ["features.25", "features.38", "features.51"],
    "cfa_mvtec_vgg19_code": ["features.25", "features.38", "features.52"],
}


def digits(raw: Path) -> None:
    """Two images of every class in each part, in the format of MNIST."""
    raw.mkdir(parents=True)
    pixels = np.stack([noise(place, 28)[:, :, 0] for place in range(20)])
    labels = np.arange(20, dtype=np.uint8) % 10
    for part in ("train", "t10k"):
        header = struct.pack(">4i", 2051, 20, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2i", 2049, 20) + labels.tobytes()
        )


def faces(folder: Path) -> None:
    """Eight faces, without and with glasses, in the layout of CelebA."""
    rows = [(f"{place:06d}.jpg", "0" if place < 4 else "2") for place in range(8)]
    for place, (name, _) in enumerate(rows):
        save(folder / "img_align_celeba" / name, noise(place, 40))
    marks = [f"{name} {1 if place > 5 else -1}" for place, (name, _) in enumerate(rows)]
    (folder / "list_attr_celeba.txt").write_text("\n".join(["8", "Eyeglasses ", *marks, ""]))
    (folder / "list_eval_partition.txt").write_text("".join(f"{a} {b}\n" for a, b in rows))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The root of the data of every dataset that a preset names."""
    root = tmp_path_factory.mktemp("presets")
    class_tree(root / "classes", side=32)
    mvtec_tree(root / "parts")
    for name in ("MNIST", "FashionMNIST"):
        digits(root / name / "raw")
    faces(root / "celeba")
    images = root / "visa" / "pcb1" / "Data" / "Images"
    for place in range(104):
        save(images / "Normal" / f"{place:04d}.JPG", noise(place % 3, 32))
    for place in range(2):
        save(images / "Anomaly" / f"{place:03d}.JPG", noise(place, 32))
        save(
            root / "visa" / "pcb1" / "Data" / "Masks" / "Anomaly" / f"{place:03d}.png",
            np.eye(32, dtype=np.uint8),
        )
    parts = dict.fromkeys(("mvtec", "mvtec_rd", "mpdd"), root / "parts")
    classes = dict.fromkeys(("cifar10", "cifar100", "cats_and_dogs"), root / "classes")
    flat = dict.fromkeys(("mnist", "fashion_mnist", "celeba"), root)
    return {**parts, **classes, **flat, "visa": root / "visa"}


@pytest.fixture
def atoms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random first filters of a LeNet, in place of a dictionary, which takes seconds."""

    def drawn(images: Tensor, shape: torch.Size, seed: int) -> Tensor:
        return torch.nn.functional.normalize(torch.rand(shape).flatten(1), dim=1).view(shape)

    monkeypatch.setattr(lenet, "patch_atoms", drawn)


def swept(name: str) -> dict[str, list[str]]:
    """The values of every key that a preset sweeps over."""
    hydra = yaml.safe_load(FILES[name].read_text()).get("hydra", {})
    params = hydra.get("sweeper", {}).get("params", {})
    return {key: str(value).split(",") for key, value in params.items()}


def preset(name: str, *overrides: str) -> Any:
    """The resolved configuration of a preset."""
    return composed(
        "two_stage" if name in OF_STAGES else "train", [f"experiment={name}", *overrides]
    )


def small(cfg: Any, root: Path) -> None:
    """Shrink a configuration: a tiny backbone and images, and two steps."""
    cfg.dataset.root = str(root)
    cfg.cache.enabled = False
    cfg.maps = 0
    cfg.trainer.accelerator = "cpu"
    if cfg.backbone.name == "lenet":
        cfg.pretrain.epochs = 1
    else:
        cfg.dataset.resize, cfg.dataset.crop = 40, 32
        cfg.backbone.model, cfg.backbone.weights = "test_resnet", "random"
        if "joined" in cfg.backbone:
            cfg.backbone.joined = None
    if cfg.ensemble:
        cfg.ensemble = [{"resize": 32, "crop": 32}, {"resize": 40, "crop": 32}]
    cfg.loss.fit.epochs = cfg.trainer.max_epochs = None
    cfg.loss.fit.steps = 2


@pytest.mark.usefixtures("atoms")
@pytest.mark.parametrize("name", OF_TRAIN)
def test_a_detector_of_a_preset_takes_two_steps(name: str, world: dict[str, Path]) -> None:
    first = [f"{key}={values[0]}" for key, values in swept(name).items()]
    cfg = preset(name, "logger=none", "callbacks=none", *first)
    assert open_values(cfg)
    frame = (cfg.dataset.resize, cfg.dataset.crop)
    assert frame == FRAMES.get(name, frame)
    assert cfg.published is None or published_line(cfg.published).endswith(cfg.published.source)
    dataset = cfg.dataset.name
    small(cfg, world[dataset])
    job = make_job(cfg)
    fit = fit_without([], job, job.benchmark, job.benchmark.tasks()[0])
    assert fit.steps == 2
    image = torch.rand(2, 3, job.benchmark.crop, job.benchmark.crop)
    assert fit.detector.eval()(image).score.isfinite().all()
    biased = [key for key in fit.detector.state_dict() if key.endswith("bias")]
    assert not (name.startswith("deep_svdd") and biased), "Deep SVDD has no bias"


@pytest.mark.parametrize("name", ONE_PASS)
def test_a_preset_of_one_pass_runs_on_a_small_transformer(
    name: str, world: dict[str, Path]
) -> None:
    cfg = preset(name, "logger=none", "callbacks=none")
    assert open_values(cfg)
    assert list(cfg.backbone.blocks) == ONE_PASS[name]
    with torch.device("meta"):
        depth = len(timm_model(cfg.backbone.model, seed=0).blocks)
    assert max(ONE_PASS[name]) == depth - (1 if name == "anomalydino" else 12)
    side = cfg.dataset.crop
    assert cfg.dataset.resize == side == (448 if name == "anomalydino" else 672)
    assert cfg.loss.get("bank", np.inf) >= 4 * (1 + len(cfg.dataset.turns)) * (side // 14) ** 2

    cfg.dataset.root = str(world["mvtec"])
    cfg.cache.enabled = False
    cfg.trainer.accelerator = "cpu"
    cfg.dataset.resize = cfg.dataset.crop = 32
    cfg.backbone.model, cfg.backbone.weights = "test_vit", "random"
    cfg.backbone.blocks = [1, 4] if cfg.backbone.combine == "mean" else [5]
    job = make_job(cfg)
    fit = fit_without([], job, job.benchmark, job.benchmark.tasks()[0])
    found = fit.detector.eval()(torch.rand(2, 3, 32, 32))
    assert found.score.isfinite().all()
    if name == "anomalydino":
        assert len(fit.detector.objective.bank) == (1 + len(cfg.dataset.turns)) * 2 * 2


@pytest.mark.parametrize("name", OF_STAGES)
def test_an_encoder_of_a_preset_takes_two_steps(name: str, world: dict[str, Path]) -> None:
    cfg = preset(name)
    assert open_values(cfg)
    given = cfg.representation
    frame = (cfg.dataset.resize, cfg.dataset.crop)
    assert frame == FRAMES.get(name, frame)
    assert given.fit.epochs == (8192 if name.endswith("_da") else 2048)
    of_code = (given.encoder.init, given.augment.brightness, given.decayed)
    assert of_code == ("keras", "added", "all")
    given.encoder.model, given.encoder.head = TINY, [8, 8]
    module = representation_plan(cfg).module()
    benchmark = build(cfg.dataset, "dataset", root=str(world[cfg.dataset.name]))
    assert benchmark.tasks()
    check_side(module, benchmark)
    side = 40 if given.patches else given.encoder.side
    assert len(losses(module, torch.rand(4, 3, side, side), epochs=1, batch=2)) == 1
    assert {group["weight_decay"] for group in module.trainer.optimizers[0].param_groups} == {3e-4}


@pytest.mark.parametrize("name", CHANNELS)
def test_levels_of_a_preset_have_the_published_channels(name: str) -> None:
    cfg = preset(name)
    with torch.device("meta"):
        net = timm_model(cfg.backbone.model, seed=0)
    by_stride = {each["reduction"]: each["num_chs"] for each in net.feature_info}
    counts = cfg.backbone.get("joined") or [1, 1, 1]
    levels = [count * by_stride[s] for s, count in zip(cfg.backbone.strides, counts, strict=True)]
    expansion, compression = cfg.projector.expansion, cfg.projector.compression
    assert (sum(levels), expansion * sum(levels) // compression) == CHANNELS[name]
    if name in MODULES:
        indices = choose_strides(
            cfg.backbone.strides, None, [each["reduction"] for each in net.feature_info]
        )
        assert [net.feature_info[index]["module"] for index in indices] == MODULES[name]


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("noco_norm_sweep", {1: 0.99, 2: 0.99, 4: 0.972, 8: 0.892, 3: None}),
        ("noco_cifar10_norm_sweep", {1: 0.939, 4: 0.94, 8: 0.941, 16: 0.938, 32: 0.913}),
    ],
)
def test_each_norm_of_a_sweep_has_its_published_figure(
    name: str, figures: dict[int, float | None]
) -> None:
    cfg = unresolved("train", [f"experiment={name}"])
    norms = [int(value) for value in swept(name)["loss.norm"]]
    assert set(norms) <= set(figures)
    for norm, figure in figures.items():
        cfg.loss.norm = norm
        assert cfg.published.image_auroc == figure


def test_every_preset_is_on_the_page_of_papers() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "papers.md").read_text(encoding="utf-8")
    assert [name for name in FILES if f"`{name}`" not in page] == ["oracle_search"]
    named = set(re.findall(r"`((?:noco|cfa|deep_svdd|sohn)_\w+)`", page))
    assert named <= set(FILES)
