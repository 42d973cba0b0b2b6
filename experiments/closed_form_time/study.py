"""Which label-free principle picks t best: ``python experiments/closed_form_time/study.py --help``.

For every set, the closed form is evaluated on the test set at each t. Every principle picks its t
from the training features alone. The loss of a principle is the difference between the best AUROC
and the AUROC at its t.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import torch

from occ_lab.config.composition import build, composed
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.features.cache import FeatureCache
from occ_lab.features.extraction import use_features
from occ_lab.metrics.evaluation import Evaluation
from occ_lab.objectives.norm.closed_form import expected_factor, initial_moment, spectrum
from occ_lab.objectives.norm.flow_time import TIMES, TOLERANCE, FlowTime, separations
from occ_lab.objectives.norm.moments import HalvedMoments, Moments
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.projectors import Conv1x1
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
MNIST_TRAIN, MNIST_TEST = 1000, 2000  # the first images of each part, to keep the study short


def sets(data: Path) -> Iterator[tuple[str, list[str]]]:
    """Name and overrides of every set."""
    yield "transistor", ["dataset=mvtec", f"dataset.root={data}/mvtec_256"]
    for name in ("brick", "grass", "gravel"):
        yield name, [f"dataset.category={name}"]
    yield "magnetic_tile", ["dataset=magnetic_tile", f"dataset.root={data}/magnetic_tile"]
    small = ["dataset.resize=128", "dataset.crop=128"]
    cifar = ["dataset=class_folder", f"dataset.root={data}/cifar10_subset", *small]
    for name in sorted(path.name for path in (data / "cifar10_subset" / "train").iterdir()):
        yield f"cifar {name}", [*cifar, f"dataset.category={name}"]
    for digit in "347":
        yield (
            f"mnist {digit}",
            ["dataset=mnist", f"dataset.root={data}", *small, f"dataset.category='{digit}'"],
        )


class Features:
    """Cached features of one set."""

    def __init__(self, overrides: list[str], cache: FeatureCache) -> None:
        cfg = composed("train", ["loss.time=auto", *overrides])
        benchmark = build(cfg.dataset, "dataset")
        self.data = AnomalyDataModule(
            benchmark, benchmark.tasks()[0], batch_size=4, eval_batch_size=4
        )
        if cfg.dataset.name == "mnist":
            del self.data.split.train[MNIST_TRAIN:]
            del self.data.split.test[MNIST_TEST:]
        self.data.set_aside([])  # reads the training images from the split again
        backbone = build(cfg.backbone, "backbone")
        use_features(self.data, cache, backbone, torch.device("cpu"))
        self.channels = backbone.channels
        self.normalize = cfg.loss.normalize
        self.size = (benchmark.crop, benchmark.crop)

    def batches(self, part: str) -> Iterator[dict]:
        """Batches with float32 levels; the training order is shuffled in a fixed way."""
        torch.manual_seed(0)
        loader = getattr(self.data, f"{part}_dataloader")()
        for batch in loader:
            yield {**batch, "levels": [level.float() for level in batch["levels"]]}


def test_metrics(features: Features, sigma: torch.Tensor, t: float) -> dict[str, float]:
    """Metrics of the closed form at t on the test set."""
    projector = Conv1x1(features.channels, normalize=features.normalize)
    projector.assign(expected_factor(sigma, sum(features.channels), 1.0, t))
    evaluation, postprocess = Evaluation(), PostProcess()
    with torch.inference_mode():
        for batch in features.batches("test"):
            scores = torch.linalg.vector_norm(projector(batch["levels"]), dim=1)
            maps = postprocess.maps(scores, features.size)
            image_scores = postprocess.image_scores(scores, maps)
            evaluation.update(image_scores, batch["label"], maps, batch.get("mask"))
    return evaluation.compute()


def first(times: Callable[[float], bool]) -> float:
    """The smallest t that fulfils a condition, otherwise the largest."""
    return next((t for t in TIMES if times(t)), TIMES[-1])


def principles(features: Features) -> dict[str, float]:
    """The t that each principle picks."""
    chooser = FlowTime(features.normalize)
    moments = HalvedMoments(features.normalize)
    for batch in features.batches("train"):
        _, held_out_images = moments.update(batch["levels"])
        chooser.observe(held_out_images)
    count = sum(features.channels)
    held_out, half = chooser.held_out, moments.half_mean(0)
    picked = {"cut and paste": chooser.choose(half, features.channels, count, 1.0)[0]}

    rng = np.random.default_rng(0)
    shuffled = np.stack([rng.permutation(column) for column in held_out.T], axis=1)
    shuffled = np.where(rng.random(held_out.shape) < 0.05, shuffled, held_out)
    aurocs = dict(zip(TIMES, separations(held_out, shuffled, half, count, 1.0), strict=True))
    best = max(aurocs.values())
    picked["5 % of channels shuffled"] = first(lambda t: aurocs[t] >= best - TOLERANCE)

    sigma = moments.mean
    initial = float(initial_moment(count, count) * sigma.trace() + sigma[-1, -1])

    def training_score(t: float) -> float:
        factor = expected_factor(sigma, count, 1.0, t)
        return float((factor @ sigma @ factor.T).trace()) / initial

    picked["training score falls to 1 %"] = first(lambda t: training_score(t) <= 0.01)
    picked["a quarter of the rank is left"] = first(
        lambda t: float(torch.exp(-t * spectrum(sigma)[0]).sum()) / (count + 1) <= 0.25
    )

    def gap(t: float) -> float:
        factor = expected_factor(half, count, 1.0, t)
        extended = torch.from_numpy(np.c_[held_out, np.ones(len(held_out))])
        unseen = (extended @ factor.T).square().sum(1).mean()
        return float(unseen / (factor @ half @ factor.T).trace())

    picked["held-out score within 10 % of training"] = max(
        (t for t in TIMES if gap(t) <= 1.1), default=TIMES[0]
    )
    return picked | {f"always {t:g}": t for t in TIMES}


def main() -> None:
    """Run the study and write results.json and README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real data")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/occ_lab"))
    arguments = parser.parse_args()
    keep_freed_memory()
    results = {}
    for name, overrides in sets(arguments.data):
        features = Features(overrides, FeatureCache(arguments.cache))
        whole = Moments(features.normalize)
        for batch in features.batches("train"):
            whole.update(batch["levels"])
        metrics = {f"{t:g}": test_metrics(features, whole.mean, t) for t in TIMES}
        results[name] = {"metrics": metrics, "picked": principles(features)}
        print(name, {t: round(m["image_auroc"], 3) for t, m in metrics.items()}, flush=True)
    write_whole(HERE / "results.json", json.dumps(results, indent=1) + "\n")
    write_whole(HERE / "README.md", report(results))


def losses(results: dict, principle: str, metric: str) -> list[float]:
    """How far a principle's t stays below the best t on each set with the metric, in points."""
    lost = []
    for result in results.values():
        values = {t: m[metric] for t, m in result["metrics"].items() if metric in m}
        if values:
            lost.append(100 * (max(values.values()) - values[f"{result['picked'][principle]:g}"]))
    return lost


def report(results: dict) -> str:
    """The page that shows the comparison."""
    names = list(next(iter(results.values()))["picked"])
    lines = [
        "# How `loss.time=auto` picks t",
        "",
        "Every principle picks t from the normal training features alone. Its loss is the number",
        "of AUROC points that its t scores below the best t of the set, which requires test",
        "labels.",
        "Norm 1, default backbone, maximum of the map as image score; MNIST with the first "
        f"{MNIST_TRAIN} training digits of a class and the first {MNIST_TEST} test digits.",
        "",
        f"Recorded {date.today()} by `python experiments/closed_form_time/study.py --data DIR`.",
        "",
        "| principle | image AUROC loss: mean | structured | semantic | worst set | pixel loss |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    structured = sum("pixel_auroc" in r["metrics"]["10"] for r in results.values())
    order = sorted(names, key=lambda name: np.mean(losses(results, name, "image_auroc")))
    for name in order:
        image, pixel = (losses(results, name, f"{kind}_auroc") for kind in ("image", "pixel"))
        lines.append(
            f"| {name} | {np.mean(image):.2f} | {np.mean(image[:structured]):.2f} "
            f"| {np.mean(image[structured:]):.2f} | {max(image):.2f} | {np.mean(pixel):.2f} |"
        )
    times = [f"{t:g}" for t in TIMES]
    lines += [
        "",
        "Image AUROC (and pixel AUROC) by t, and the t that cut and paste picks:",
        "",
        f"| set | {' | '.join(times)} | picked |",
        f"| --- |{' --- |' * (len(times) + 1)}",
    ]
    for name, result in results.items():
        cells = [
            " / ".join(
                f"{100 * result['metrics'][t][metric]:.1f}"
                for metric in ("image_auroc", "pixel_auroc")
                if metric in result["metrics"][t]
            )
            for t in times
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {result['picked']['cut and paste']:g} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
