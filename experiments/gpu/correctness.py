"""Whether a device computes what the CPU computes: backbone, objectives, commands, processes."""

from __future__ import annotations

import copy
import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import occ_lab
from experiments.gpu.setting import Figures, Setting, trainer_on
from occ_lab.backbones.encoder import Encoder, turned
from occ_lab.backbones.timm import TimmBackbone
from occ_lab.config.composition import composed
from occ_lab.config.stream import perform_stream
from occ_lab.data.batches import Batch
from occ_lab.deploy.export import export
from occ_lab.engine.api import FitResult
from occ_lab.features.cache import FeatureCache
from occ_lab.inference.predictor import load
from occ_lab.objectives import (
    CFA,
    KDE,
    KNN,
    OCSVM,
    DeepSVDD,
    Gaussian,
    Norm,
    Objective,
    PaDiM,
    RotationScore,
)
from occ_lab.pretraining.augmentations import TURNS
from occ_lab.pretraining.contrastive import contrast

# The largest accepted differences from the CPU in float32. Of levels, the root mean square of the
# difference over that of the level; of scores, the difference over the spread of all scores.
LEVELS = {
    "float32, no TF32": 1e-4,
    "float32, TF32 in convolutions": 5e-3,
    "float32, TF32 everywhere": 5e-3,
    # Eight times as coarse as float16; on a CPU, either has about half of its tolerance.
    "bfloat16": 0.2,
    "float16": 0.025,
}
ONE_PASS = 1e-3
GRADIENT = 1e-2  # rounding grows with the steps
BFLOAT16 = 5e-2
HALF_FEATURES = 0.02  # of any metric, with features in bfloat16
AUROC = 0.01  # in float32; in bfloat16 only the scores are compared
GRADIENTS = 1e-2

MakeObjective = Callable[[], Objective]


def objectives(bank: int) -> dict[str, MakeObjective]:
    """Makers of all objectives of structured tasks; ``bank`` limits those with a sample."""
    return {
        "norm, local": Norm,
        "norm, one projector": partial(Norm, cell=None, bias="flow", time="auto"),
        "norm, normalised": partial(Norm, cell=None, bias="flow", time=3.0, normalize=True),
        "norm, gradient": partial(Norm, solver="gradient"),
        "CFA": CFA,
        "CFA, selection in bfloat16": partial(CFA, half_selection=True),
        "Deep SVDD": DeepSVDD,
        "Deep SVDD, soft": partial(DeepSVDD, boundary="soft", warmup=0),
        "nearest neighbours": partial(KNN, bank=bank),
        "nearest neighbours, coreset": partial(KNN, bank=bank // 4, coreset="greedy"),
        "PaDiM": PaDiM,
        "Gaussian": Gaussian,
        "KDE": partial(KDE, samples=bank),
        "one-class SVM, linear": partial(OCSVM, kernel="linear", samples=bank),
        "one-class SVM, RBF": partial(OCSVM, kernel="rbf", samples=bank),
    }


def check_backbone(setting: Setting) -> Figures:
    """The levels of photographs in every precision, against those of the CPU in float32.

    Rounding in bfloat16 accumulates over the layers, so that the metrics of a detector over such
    features are compared as well.
    """
    images = torch.stack([sample["image"] for sample in samples(setting)])
    with torch.inference_mode():
        expected = setting.backbone()(images)
    found: Figures = {}
    for name, tolerance in LEVELS.items():
        convolutions, products = name != "float32, no TF32", name.endswith("everywhere")
        precision = name.split(",")[0]
        with tf32(convolutions, products), torch.inference_mode():
            backbone = setting.backbone(precision).to(setting.device)
            levels = [level.float().cpu() for level in backbone(images.to(setting.device))]
        off = [float((a - b).norm() / b.norm()) for a, b in zip(levels, expected, strict=True)]
        found[name] = judged(max(off), tolerance)
    here = fit(setting, Norm, torch.device("cpu"))
    there = fit(
        setting,
        Norm,
        setting.device,
        backbone=setting.backbone("bfloat16"),
        cache=FeatureCache(setting.work / "bfloat16"),
    )
    found["metrics, bfloat16"] = judged(apart(there.metrics, here.metrics), HALF_FEATURES)
    return together(found)


class tf32:  # noqa: N801  # used like a function
    """Sets what may be computed in TF32, and restores it."""

    def __init__(self, convolutions: bool, products: bool) -> None:
        self.wanted = convolutions, products

    def __enter__(self) -> None:
        cudnn, products = torch.backends.cudnn, torch.get_float32_matmul_precision()
        self.before = cudnn.allow_tf32, products
        self._set(self.wanted[0], "high" if self.wanted[1] else "highest")

    def __exit__(self, *raised: object) -> None:
        self._set(*self.before)

    def _set(self, convolutions: bool, products: str) -> None:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)


def samples(setting: Setting) -> list[Batch]:
    """A few photographs as samples."""
    images = setting.photographs().train_images
    return [images[index] for index in range(min(8, len(images)))]


def check_objective(setting: Setting, name: str) -> Figures:
    """Fit and test on the CPU and on the device, in float32 and bfloat16, from the same features.

    A fit on the device in ``bf16-mixed`` shows whether the objective supports it, and how far its
    scores are from those of the CPU in float32.
    """
    make = objectives(setting.effort.bank)[name]
    cpu = fit(setting, make, torch.device("cpu"))
    one_pass = make().one_pass
    found: Figures = {}
    for precision, tolerance in (
        ("32-true", ONE_PASS if one_pass else GRADIENT),
        ("bf16-mixed", BFLOAT16),
    ):
        try:
            other = fit(setting, make, setting.device, precision)
        except Exception as error:  # one precision may be supported and the other not
            found[precision] = failed(error)
            continue
        figures = judged(difference(other.scores, cpu.scores), tolerance)
        figures["metrics"] = apart(other.metrics, cpu.metrics)
        if precision == "32-true":
            figures["agrees"] &= figures["metrics"] <= AUROC
        found[precision] = figures
    return together(found)


def fit(
    setting: Setting,
    make: MakeObjective,
    device: torch.device,
    precision: str = "32-true",
    directory: Path | None = None,
    backbone: TimmBackbone | None = None,
    cache: FeatureCache | None = None,
) -> FitResult:
    """Fit to the photographs on a device, by default with the features of the CPU in float32."""
    objective = make()
    return occ_lab.fit(
        setting.photographs(),
        objective,
        backbone or setting.backbone(),
        steps=None if objective.one_pass else setting.effort.steps,
        cache=cache or setting.cache,
        trainer=trainer_on(device, precision),
        directory=directory,
    )


def check_densities(setting: Setting) -> Figures:
    """The objectives of two-stage learning on embeddings of whole images, without a trainer."""
    generator = torch.Generator().manual_seed(0)
    train = torch.randn(64, 32, 1, 1, generator=generator)
    test = 1.2 * torch.randn(48, 32, 1, 1, generator=generator)
    makers: dict[str, MakeObjective] = {
        "KDE": KDE,
        "one-class SVM, linear": partial(OCSVM, kernel="linear"),
        "one-class SVM, RBF": partial(OCSVM, kernel="rbf"),
        "Gaussian": Gaussian,
        "nearest neighbours, cosine": partial(KNN, metric="cosine"),
    }

    def scores(make: MakeObjective, device: torch.device) -> Tensor:
        objective = make()
        projector = objective.default_projector([32])
        objective.to(device)
        projector.to(device)
        objective.observe([train.to(device)])
        objective.finish(projector)
        with torch.inference_mode():
            return objective(projector([test.to(device)])).cpu()

    found = {
        name: judged(
            difference(scores(make, setting.device), scores(make, torch.device("cpu"))), ONE_PASS
        )
        for name, make in makers.items()
    }
    z = torch.randn(8, TURNS, 1, 1, generator=generator)
    on_device = RotationScore()(z.to(setting.device)).cpu()
    found["rotation score"] = judged(difference(on_device, RotationScore()(z)), ONE_PASS)
    return together(found)


def check_representations(setting: Setting) -> Figures:
    """Loss and gradient of the tasks of stage 1 on the same views, in float32 and bfloat16."""
    generator = torch.Generator().manual_seed(0)
    count, side = setting.effort.views
    views = torch.rand(count, 3, side, side, generator=generator)
    torch.manual_seed(0)
    encoder = Encoder(side=side, head=[64, 32], classes=TURNS)

    def contrastive(encoder: Encoder, images: Tensor) -> Tensor:
        queries, keys = functional.normalize(encoder(images).float(), dim=1).chunk(2)
        return contrast(queries, keys, temperature=0.2)[0]

    def rotation(encoder: Encoder, images: Tensor) -> Tensor:
        shown = torch.cat([turned(images, turn) for turn in range(TURNS)])
        turns = torch.arange(TURNS, device=images.device).repeat_interleave(len(images))
        return functional.cross_entropy(encoder.classify(shown).float(), turns)

    def step(loss: Callable[..., Tensor], device: torch.device, half: bool) -> list[Tensor]:
        own = copy.deepcopy(encoder).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=half), tf32(False, False):
            value = loss(own, views.to(device))
        value.backward()
        return [value.detach().cpu(), gradient(own)]

    found: Figures = {}
    for name, loss in (("contrastive", contrastive), ("rotation", rotation)):
        value, slope = step(loss, torch.device("cpu"), half=False)
        for half, tolerance in ((False, GRADIENTS), (True, None)):
            other, other_slope = step(loss, setting.device, half)
            # In bfloat16, the gradient of an untrained network with batch-norm may differ at will.
            figures = judged(float(abs(other - value) / value), tolerance or BFLOAT16)
            figures["gradient"] = float((other_slope - slope).norm() / slope.norm())
            if tolerance:
                figures["agrees"] &= figures["gradient"] <= tolerance
            found[f"{name}, {'bfloat16' if half else 'float32'}"] = figures
    return together(found)


def gradient(module: nn.Module) -> Tensor:
    """The gradients of all parameters that have one, as one vector on the CPU."""
    return torch.cat([p.grad.flatten().cpu() for p in module.parameters() if p.grad is not None])


def check_run_directory(setting: Setting) -> Figures:
    """A detector fitted on the device: stored, loaded on both devices, used, and exported."""
    directory = setting.work / "run"
    fit(setting, Norm, setting.device, directory=directory)
    paths = [item.path for item in setting.photographs().split.test]
    here, there = (load(directory, device=each) for each in (torch.device("cpu"), setting.device))
    expected, found = here.score(paths), there.score(paths)
    assert isinstance(expected.maps, Tensor)
    assert isinstance(found.maps, Tensor)
    with tf32(False, False):
        exact = there.score(paths)
    figures: Figures = {
        "scores": judged(difference(found.image, expected.image), 5 * GRADIENT),
        "maps": judged(difference(found.maps, expected.maps), 5 * GRADIENT),
        "scores without TF32": judged(difference(exact.image, expected.image), GRADIENT),
    }
    for format in setting.effort.formats:
        suffix = {"torch_export": ".pt2", "onnx": ".onnx"}[format]
        try:
            made = export(
                load(directory), setting.work / f"exported{suffix}", format=format, input="tensor"
            )
            worst = max(made.differences.values())
            figures[f"export, {format}"] = {"difference": worst, "agrees": True}  # or it raises
        except Exception as error:
            figures[f"export, {format}"] = failed(error)
    return together(figures)


def check_stream(setting: Setting) -> Figures:
    """The scores of a stream of image files, each before the detector learns from it."""
    folder = Path(setting.photographs().split.train[0].path).parent

    def scores(device: torch.device) -> np.ndarray:
        side = setting.effort.side
        overrides = [
            *setting.overrides(),
            *(f"input='{folder}'", f"dataset.resize={side}", f"dataset.crop={side}"),
            *(f"trainer.accelerator={device.type}", "logger=none", "gallery=false"),
        ]
        out = setting.work / f"stream on {device.type}"
        with tf32(False, False):
            perform_stream(composed("stream", [*overrides, "hydra.run.dir=unused"]), out)
        with (out / "streams" / "input.csv").open(encoding="utf-8", newline="") as stream:
            found = [row["score"] for row in csv.DictReader(stream)]
        return np.array([float(score) for score in found[1:]])  # the first has none

    expected = scores(torch.device("cpu"))
    if setting.device.type == "cpu":
        return judged(0.0 if len(expected) else math.inf, GRADIENT)
    return judged(difference(scores(setting.device), expected), GRADIENT)


# Several devices

PROCESSES = {
    "norm, local": [],
    "norm, one projector": ["loss.cell=null", "loss.bias=flow", "loss.time=3"],
    "norm, time chosen": ["loss.cell=null", "loss.bias=flow", "loss.time=auto"],
    "norm, gradient": ["loss.solver=gradient", "loss.fit.steps=STEPS"],
    "CFA": ["loss=cfa", "loss.fit.steps=STEPS"],
    "PaDiM": ["loss=padim"],
    "nearest neighbours": ["loss=knn"],
}
# Each process draws its own sample, or chooses by its own images, so figures only come close.
BY_PROCESS = {"norm, time chosen", "nearest neighbours"}
OTHER_SAMPLE = 0.05


def check_processes(setting: Setting) -> Figures:
    """Metrics of ``occ-lab train`` by DDP on one and on all devices, against one plain process."""
    kinds: dict[str, tuple[str, int]] = {"plain": ("auto", 1), "DDP on 1": ("ddp", 1)}
    if setting.count > 1:
        kinds[f"DDP on {setting.count}"] = ("ddp", setting.count)
    jobs = {
        (name, kind): (more, *how)
        for name, more in PROCESSES.items()
        for kind, how in kinds.items()
    }
    with ThreadPoolExecutor(max(1, min(6, torch.get_num_threads() // 2))) as pool:
        results = dict(
            zip(jobs, pool.map(lambda job: trained(setting, job, *jobs[job]), jobs), strict=True)
        )
    found: Figures = {}
    for name in PROCESSES:
        plain = results[name, "plain"]
        for kind in list(kinds)[1:]:
            other = results[name, kind]
            if errors := [each["error"] for each in (plain, other) if "error" in each]:
                found[f"{name}, {kind}"] = {"agrees": False, "error": errors[0]}
                continue
            alone = kinds[kind][1] == 1
            tolerance = OTHER_SAMPLE if name in BY_PROCESS and not alone else AUROC
            found[f"{name}, {kind}"] = judged(apart(other, plain), tolerance)
    note = "" if setting.count > 1 else "There is one device, so DDP on several was not tried."
    return {**together(found), "devices": setting.count, "note": note}


def trained(
    setting: Setting, job: tuple[str, str], more: list[str], strategy: str, devices: int
) -> dict[str, Any]:
    """The metrics of a run in processes of its own, or its error."""
    out = setting.work / "processes" / " ".join(job).replace(",", "")
    data = setting.photograph_settings
    overrides = [
        *setting.overrides(),
        *("dataset.category=brick", f"dataset.root='{setting.work}/photographs'"),
        *(f"dataset.{key}={value}" for key, value in data.items()),
        *(each.replace("STEPS", str(setting.effort.steps)) for each in more),
        *(f"trainer.accelerator={setting.device.type}", f"trainer.devices={devices}"),
        *(f"trainer.strategy={strategy}", "logger=none", "maps=0", f"hydra.run.dir='{out}'"),
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "occ_lab.train", *overrides],
        env={**os.environ, "OCC_LAB_CACHE": str(setting.work / "cache")},
        capture_output=True,
        text=True,
        check=False,
        timeout=max(1.0, min(300.0, setting.seconds_left())),
    )
    if ended.returncode:
        return {"error": "\n".join((ended.stderr or ended.stdout).splitlines()[-6:])}
    content = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    task: Mapping[str, Any] = content["tasks"]["brick"]
    return {name: value for name, value in task.items() if name.startswith(("image_", "pixel_"))}


# Comparison

STEADY = ("image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_aupro")


def apart(found: Mapping[str, float], expected: Mapping[str, float]) -> float:
    """The largest difference of a metric, of those that do not hang on a few pixels."""
    return max(abs(found[name] - expected[name]) for name in STEADY if name in expected)


def difference(found: Any, expected: Any) -> float:
    """The largest difference of scores, over the spread of the expected ones; infinite if NaN."""
    a, b = (np.asarray(each, dtype=np.float64) for each in (found, expected))
    largest = np.abs(a - b).max() / max(np.ptp(b), np.finfo(np.float64).tiny)
    return float(largest) if np.isfinite(largest) else math.inf


def judged(off: float, tolerance: float) -> Figures:
    """A difference with its verdict."""
    return {"difference": off, "tolerance": tolerance, "agrees": off <= tolerance}


def failed(error: Exception) -> Figures:
    """The record of an error."""
    return {"agrees": False, "error": f"{type(error).__name__}: {error}"}


def together(parts: Mapping[str, Figures]) -> Figures:
    """Figures of several parts, which agree if all of them do."""
    return {"parts": dict(parts), "agrees": all(each["agrees"] for each in parts.values())}
