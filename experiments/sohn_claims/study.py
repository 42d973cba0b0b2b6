"""Further claims of two-stage learning: ``python -m experiments.sohn_claims.study --help``.

Raw pixels of all classes of CIFAR-10; cats and dogs; patches of transistors; and how batch size and
depth of the head change contrastive learning. Trainings are short; `experiments/two_stage` has
longer ones on four classes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KernelDensity
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from experiments.trial import CIFAR10_CLASSES, at, command_line, record, table
from experiments.two_stage.study import CIFAR, FAST, Watch, kde_auroc, trained
from occ_lab.config.composition import build, composed
from occ_lab.config.two_stage import representation_plan
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.engine.representation import learn
from occ_lab.features.extraction import image_batches
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
TWO_STAGE = HERE.parent / "two_stage" / "results.json"
LEARNED = ("airplane", "automobile", "bird", "cat")  # rotation is recorded in two_stage
PIXELS, UNIT, COLOURS, LAYOUT = (
    "pixels as they are",
    "pixels, length 1",
    "mean colour alone",
    "pixels without the mean colour",
)
FORMS = (PIXELS, UNIT, COLOURS, LAYOUT)
TEST_IMAGES = (100, 900)  # normal and anomalous, of a class

CATS_AND_DOGS = ["dataset=cats_and_dogs", "dataset.root=DIR/cats_and_dogs_subset"]
SPECIES = {name: f"{name} of cats and dogs" for name in ("cat", "dog")}
ROTATION = [
    "dataset.train_limit=300",
    "representation=rotation",
    "representation.fit.batch_size=16",
    "representation.fit.epochs=1",
]
PATCHES = ["dataset=mvtec", "dataset.root=DIR/mvtec_256", "dataset.train_limit=40", "stride=32"]
CONTRASTIVE = ["representation=contrastive_da", "representation.fit.epochs=10"]
DENSITY = "density=[kde,ocsvm_rbf]"

SPHERE = ["dataset.category=airplane", "representation=contrastive_da"]
SPHERE_EPOCHS = 6
BATCHES = (16, 32, 128)
DEPTHS = (0, 8)  # hidden layers of the head
PUBLISHED_BATCH, PUBLISHED_DEPTH = 32, 8


def main() -> None:
    """Run the trials that are not recorded yet, then write the page."""
    data = command_line(__doc__).parse_args().data
    keep_freed_memory()
    write_whole(HERE / "README.md", report(record(HERE / "results.json", trials(data))))


def trials(data: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The trials, by key."""
    for name in CIFAR10_CLASSES:
        yield f"raw | {name}", partial(raw, [*CIFAR, f"dataset.category={name}"], data)
    for batch, depth in sphere_cases():
        head = [512] * depth + [128]
        chosen = [
            f"representation.fit.batch_size={batch}",
            f"representation.fit.epochs={SPHERE_EPOCHS}",
            f"representation.encoder.head={head}",
        ]
        yield sphere_key(batch, depth), partial(contrasted, [*CIFAR, *SPHERE, *chosen], data)
    learned = partial(trained, data=data, looks=0)
    yield "transistor", partial(learned, [*PATCHES, *CONTRASTIVE, DENSITY])
    for name, title in SPECIES.items():
        task = [*CATS_AND_DOGS, f"dataset.category={name}"]
        yield f"raw | {title}", partial(raw, task, data)
        yield title, partial(learned, [*task, *ROTATION, DENSITY])


def sphere_cases() -> list[tuple[int, int]]:
    """Batch sizes at the published depth, then depths at the published batch size."""
    batches = [(batch, PUBLISHED_DEPTH) for batch in BATCHES]
    return batches + [(PUBLISHED_BATCH, d) for d in DEPTHS if d != PUBLISHED_DEPTH]


def sphere_key(batch: int, depth: int) -> str:
    """The key of a trial of contrastive learning in results.json."""
    return f"airplane | batch {batch} | {depth} hidden layers"


def contrasted(overrides: list[str], data: Path) -> dict[str, Any]:
    """Stage 1 alone, and the evaluations at its start and end."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cfg = composed("two_stage", at([*overrides, *FAST], data))
        benchmark = build(cfg.dataset, "dataset")
        plan = representation_plan(cfg)
        (task,) = benchmark.tasks()
        watch = Watch(AnomalyDataModule(benchmark, task, 1), plan.epochs, looks=1)
        encoder = folder / "encoder.safetensors"
        stage1 = learn(plan, benchmark, task, folder, encoder, [], [watch])
    return {"stage1": stage1, "watched": watch.seen}


def raw(overrides: list[str], data: Path) -> dict[str, float]:
    """Image AUROC of kernel densities of the pixels in several forms."""
    cfg = composed("two_stage", at(overrides, data))
    benchmark = build(cfg.dataset, "dataset")
    task = AnomalyDataModule(benchmark, benchmark.tasks()[0], 1)
    train, test = (
        torch.cat(list(image_batches(images, torch.device("cpu"), 512)))
        for images in (task.train_images, task.test_images)
    )
    labels = [item.label for item in task.split.test]

    def plain(train: Tensor, test: Tensor) -> float:
        gamma = 10 / (float(train.var(correction=0)) * train[0].numel())
        density = KernelDensity(bandwidth=(1 / (2 * gamma)) ** 0.5).fit(train.flatten(1).numpy())
        return float(roc_auc_score(labels, -density.score_samples(test.flatten(1).numpy())))

    means = [adaptive_avg_pool2d(images, 1) for images in (train, test)]
    return {
        PIXELS: plain(train, test),
        UNIT: kde_auroc(train.flatten(1), test.flatten(1), labels),
        COLOURS: plain(*means),
        LAYOUT: plain(train - means[0], test - means[1]),
    }


def report(results: dict[str, Any]) -> str:
    """The page that shows the tables."""
    return "\n".join(
        [
            "# Further claims of two-stage learning",
            "",
            "Sohn et al. 2021, at sizes that minutes of one CPU core allow. Image AUROC in per",
            "cent, one seed; stage 1 and features in bfloat16.",
            "",
            f"Recorded until {date.today()} by "
            "`OMP_NUM_THREADS=1 python -m experiments.sohn_claims.study --data DIR`.",
            "",
            *raw_text(results),
            *sphere_text(results),
            *sets_text(results),
        ]
    )


def raw_text(results: dict[str, Any]) -> list[str]:
    """Kernel densities of raw pixels on CIFAR-10, beside rotation prediction."""
    rotation = json.loads(TWO_STAGE.read_text(encoding="utf-8"))
    rows = []
    learned: dict[str, float] = {}
    for name in CIFAR10_CLASSES:
        found = results[f"raw | {name}"]
        cell = ""
        if name in LEARNED:
            learned[name] = rotation[f"cifar10 | {name} | rotation"]["image_auroc"]["kde_pooled"]
            cell = f"{100 * learned[name]:.1f}"
        rows.append([name, *(f"{100 * found[form]:.1f}" for form in FORMS), cell])
    means = [fmean(results[f"raw | {name}"][form] for name in CIFAR10_CLASSES) for form in FORMS]
    rows.append(["mean", *(f"{100 * mean:.1f}" for mean in means), ""])
    four = [fmean(results[f"raw | {name}"][form] for name in LEARNED) for form in FORMS]
    cells = [*four, fmean(learned.values())]
    rows.append(["mean of the four", *(f"{100 * mean:.1f}" for mean in cells)])
    behind = [
        name
        for name in LEARNED
        if learned[name] < max(results[f"raw | {name}"][form] for form in (PIXELS, UNIT))
    ]
    ahead = "ahead of them" if cells[-1] > max(cells[:2]) else "behind them"
    return [
        "## CIFAR-10: raw pixels with a kernel density",
        "",
        "300 training images a class. Rotation prediction is that of",
        "[two_stage](../two_stage/README.md): 1,296 steps, KDE on pooled features.",
        "",
        *table(["class", *FORMS, "rotation prediction"], rows),
        "",
        f"Rotation prediction is behind raw pixels on {' and '.join(behind)}, and",
        f"{ahead} in the mean of the four.",
        "",
        *(f"- {reason(results, learned, name)}" for name in behind),
        "",
    ]


def reason(results: dict[str, Any], learned: dict[str, float], name: str) -> str:
    """How large the lead of raw pixels is, and what is left of it without the mean colour."""
    found = results[f"raw | {name}"]
    best = max(found[PIXELS], found[UNIT])
    error = standard_error(best, *TEST_IMAGES)
    colours, layout, ours = (
        100 * value for value in (found[COLOURS], found[LAYOUT], learned[name])
    )
    return (
        f"{name.capitalize()}: their lead is {100 * best - ours:.1f} points, and the standard "
        f"error of an AUROC with so few images {100 * error:.1f}; the mean colour of an image "
        f"alone has {colours:.1f}, and pixels without it {layout:.1f}, compared with {ours:.1f} by "
        "rotation prediction."
    )


def standard_error(auroc: float, normal: int, anomalous: int) -> float:
    """The standard error of an AUROC (Hanley & McNeil 1982, equation 1)."""
    first, second = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = auroc * (1 - auroc)
    variance += (anomalous - 1) * (first - auroc**2) + (normal - 1) * (second - auroc**2)
    return float((variance / (normal * anomalous)) ** 0.5)


def sphere_text(results: dict[str, Any]) -> list[str]:
    """Uniformity and AUROC over batch size and depth of the head."""
    rows = []
    for batch, depth in sphere_cases():
        if one := results.get(sphere_key(batch, depth)):
            end = one["watched"][-1]
            auroc = f"{100 * end['kde_auroc']:.1f}"
            even = [f"{end[f'uniformity_{part}']:.2f}" for part in ("head", "pooled")]
            facts = one["stage1"]
            loss = f"{facts['loss']:.2f} of {facts['chance']:.2f}"
            rows.append([str(batch), str(depth), str(facts["steps"]), loss, *even, auroc])
    return [
        "## Batch size and depth of the head",
        "",
        "Contrastive learning with distribution augmentation on airplane, 300 images,",
        f"{SPHERE_EPOCHS} epochs. Uniformity is that of",
        "[two_stage](../two_stage/README.md#uniformity): 0 is a single point, about 4 is even on",
        "the sphere.",
        "",
        *table(
            [
                "batch",
                "hidden layers",
                "steps",
                "loss / chance",
                "uniformity, head",
                "uniformity, pooled",
                "image AUROC, KDE pooled",
            ],
            rows,
        ),
        "",
    ]


def sets_text(results: dict[str, Any]) -> list[str]:
    """Cats and dogs, and patches of transistors."""
    rows = []
    stages = {"transistor": "contrastive_da", **dict.fromkeys(SPECIES.values(), "rotation")}
    for name, method in stages.items():
        if one := results.get(name):
            facts = one["stage1"]
            cells = [f"{100 * one['image_auroc'][f'{d}_pooled']:.1f}" for d in ("kde", "ocsvm_rbf")]
            loss = f"{facts['loss']:.2f} of {facts['chance']:.2f}"
            rows.append([name, method, str(facts["steps"]), loss, *cells])
        if found := results.get(f"raw | {name}"):
            rows.append([name, PIXELS, "", "", f"{100 * found[PIXELS]:.1f}", ""])
    return [
        "## Cats and dogs at 64 px, and transistors from patches of 32 px",
        "",
        "300 training images of a species (pixels: all 560), 280 test images; 40 training images",
        "of the transistor, with four random patches of each in an epoch, on a grid of 32 px",
        "(`stride=32`; the default is 8). Losses near chance: these trainings have hardly begun,",
        "and the rows show that the commands run, not what the method can do.",
        "",
        *table(["set", "stage 1", "steps", "loss / chance", "KDE", "OC-SVM (RBF)"], rows),
        "",
        "Fashion-MNIST is not recorded: its files are not at hand.",
        "",
    ]


if __name__ == "__main__":
    main()
