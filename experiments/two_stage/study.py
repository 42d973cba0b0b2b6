"""Two stages from scratch: ``python -m experiments.two_stage.study --help``.

Stage 1 learns from the normal images of one class; stage 2 fits every density to the learned
features. During stage 1, two quantities are observed without influencing any choice: the AUROC of a
kernel density of the features on the test images, and how evenly the features of normal images fill
the sphere.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KernelDensity
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from experiments.trial import at, command_line, logged, record, table
from occ_lab.config.composition import build, composed
from occ_lab.config.train import perform_run
from occ_lab.config.two_stage import densities_of, representation_plan
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.pixel_batches import image_batches
from occ_lab.engine.representation import learn
from occ_lab.features.dataset import in_memory
from occ_lab.objectives.kde import KDE
from occ_lab.projectors import Identity
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
FAST = ["trainer.precision=bf16-mixed", "precision=bfloat16", "maps=0"]
BOTH = "features=[pooled,head]"
DENSITIES = 'density=[kde,gde,ocsvm_rbf,ocsvm_linear,knn,"norm loss.solver=closed_form"]'
# The number of steps that ten minutes per digit and fifteen minutes per class allow.
DIGITS = {
    "rotation": ["representation.fit.batch_size=16", "representation.fit.epochs=3"],
    "contrastive_da": ["representation.fit.epochs=6"],
}
MNIST = ["dataset=mnist", "dataset.root=DIR", "dataset.train_limit=3200"]
# A mirrored digit is not a digit, and a 3 that is mirrored and rotated by 180 degrees is a 3 again.
# With flips its rotations are therefore ambiguous: the training loss stays near ln 2.
UNFLIPPED = "representation.augment.flip=0"
FIGURES = (3, 4, 7)
FLIPPED = "mnist | 3 | rotation, with flips"
CLASSES = ("airplane", "automobile", "bird", "cat")  # the first four by name
CIFAR = ["dataset=cifar10", "dataset.root=DIR/cifar10_subset"]
CIFAR_ROTATION = ["representation.fit.batch_size=16", "representation.fit.epochs=72"]
SPHERES = ("contrastive", "contrastive_da")
SPHERE_FIT = ["representation.fit.epochs=30"]
FORMS = ("length 1", "as they are")  # of raw pixels
BRIGHTNESS = "dark images are anomalous"
LOOKS = 8  # evaluations on the test images and the sphere during the training on a class
STEPS = 8  # timed steps
PAPER_EPOCHS = 2048
CLASS_IMAGES = 5000  # of CIFAR-10
GPU_RATES = (10, 40)  # TFLOP/s that a step may sustain


def main() -> None:
    """Run the trials that are not recorded yet, then draw and write the page."""
    data = command_line(__doc__).parse_args().data
    keep_freed_memory()
    trials: list[tuple[str, Callable[[], Any]]] = [
        (FLIPPED, partial(digit, 3, "rotation", [], data))
    ]
    trials += [
        (f"mnist | {figure} | {name}", partial(digit, figure, name, [UNFLIPPED], data))
        for figure in FIGURES
        for name in DIGITS
    ]
    for name in CLASSES:
        chosen = [*CIFAR, f"dataset.category={name}"]
        settings = [*chosen, "representation=rotation", *CIFAR_ROTATION, BOTH, DENSITIES]
        trials.append((f"cifar10 | {name} | rotation", partial(trained, settings, data)))
        trials.append((f"cifar10 | {name} | raw", partial(raw_pixels, chosen, data)))
    for name in SPHERES:
        chosen = [*CIFAR, f"dataset.category={CLASSES[0]}", f"representation={name}"]
        settings = [*chosen, *SPHERE_FIT, "density=kde", BOTH]
        trials.append((f"sphere | {CLASSES[0]} | {name}", partial(trained, settings, data)))
    trials += [(f"step | {name}", partial(step, name, data)) for name in ("rotation", *SPHERES)]
    results = record(HERE / "results.json", trials)
    draw(results)
    write_whole(HERE / "README.md", report(results))


def digit(figure: int, name: str, settings: list[str], data: Path) -> dict[str, Any]:
    """Both stages on one digit of MNIST, with one representation."""
    chosen = [f"dataset.category={figure}", f"representation={name}", *DIGITS[name], *settings]
    return trained([*MNIST, *chosen, BOTH, DENSITIES], data)


def trained(overrides: list[str], data: Path, looks: int = LOOKS) -> dict[str, Any]:
    """Both stages on one task: the figures of every density, and the observed quantities.

    Args:
        overrides: the configuration of ``occ_lab.two_stage``.
        data: the folder of the real data.
        looks: how often the encoder is evaluated during stage 1, besides its start; 0 is never,
            for stages that learn from patches.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cfg = composed("two_stage", at([*overrides, *FAST, f"cache.dir={folder}/cache"], data))
        benchmark = build(cfg.dataset, "dataset")
        plan = representation_plan(cfg)
        (task,) = benchmark.tasks()
        images = AnomalyDataModule(benchmark, task, 1)
        watches = [Watch(images, plan.epochs, looks)] if looks else []
        logger = CSVLogger(folder, name="", version="")
        encoder = folder / "encoder.safetensors"
        stage1 = learn(plan, benchmark, task, folder, encoder, [logger], watches)
        curve = logged(folder / "metrics.csv")["loss"]
        figures = {}
        for name, density in densities_of(cfg).items():
            density.backbone.path = str(encoder)
            (tested,) = perform_run(density, folder / name).values()
            figures[name] = tested["image_auroc"]
    watching = sum(watch.seconds for watch in watches)
    return {
        "stage1": {**stage1, "watched_seconds": watching},
        "seconds": time.perf_counter() - started - watching,
        "curve": curve,
        "watched": [look for watch in watches for look in watch.seen],
        "image_auroc": figures,
    }


class Watch(Callback):
    """Evaluates the encoder at intervals during its training.

    Args:
        data: the task.
        epochs: the number of epochs of the whole training.
        looks: the number of evaluations after the start.
    """

    def __init__(self, data: AnomalyDataModule, epochs: int, looks: int) -> None:
        self.epochs = {round(epochs * fraction / looks) for fraction in range(1, looks + 1)}
        cpu = torch.device("cpu")
        self.train = torch.cat(list(image_batches(data.train_images, cpu, 512)))
        # A thousand test images, evenly spaced, are enough to see the trend.
        count = len(data.test_images)
        self.places = torch.linspace(0, count - 1, min(1000, count)).round().long().tolist()
        held_images = in_memory(data.test_images)
        self.test = torch.stack([held_images.__getitems__([at])["image"][0] for at in self.places])  # type: ignore[attr-defined]
        self.labels = [data.split.test[place].label for place in self.places]
        self.seen: list[dict[str, float]] = []
        self.seconds = 0.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Evaluate the encoder after some epochs."""
        epoch = trainer.current_epoch + 1
        if epoch in self.epochs:
            self.look(epoch, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Evaluate the untrained encoder."""
        self.look(0, pl_module)

    @torch.no_grad()
    def look(self, epoch: int, module: Any) -> None:
        """Record the AUROC of a kernel density and the uniformity."""
        started = time.perf_counter()
        encoder = module.encoder.eval()
        with torch.autocast("cpu", torch.bfloat16):
            train, test = (
                torch.cat([encoder.pooled(part) for part in images.split(256)]).float()
                for images in (self.train[:1600], self.test)
            )
            head = encoder.head(train).float()
        self.seen.append(
            {
                "epoch": epoch,
                "kde_auroc": kde_auroc(train, test, self.labels),
                "uniformity_pooled": uniformity(train),
                "uniformity_head": uniformity(head),
            }
        )
        encoder.train()
        self.seconds += time.perf_counter() - started


def kde_auroc(train: Tensor, test: Tensor, labels: list[int]) -> float:
    """Image AUROC of the project's kernel density on features ``[N, C]``."""
    density = KDE()
    density.observe([train[:, :, None, None]])
    density.finish(Identity([train.shape[1]]))
    return float(roc_auc_score(labels, density(test[:, :, None, None]).flatten()))


def uniformity(features: Tensor) -> float:
    """``−log mean_{i≠j} exp(−2 ‖zᵢ − zⱼ‖²)`` of unit vectors: 0 for a point, 4 for nearly even.

    (Wang & Isola 2020, arXiv 2005.10242, equation 7, with the sign turned.)
    """
    squared = torch.pdist(torch.nn.functional.normalize(features.double())).square()
    return -float((-2 * squared).exp().mean().log())


def raw_pixels(overrides: list[str], data: Path) -> dict[str, float]:
    """Image AUROC of kernel densities on the pixels in two forms, and of brightness alone."""
    cfg = composed("two_stage", at(overrides, data))
    benchmark = build(cfg.dataset, "dataset")
    task = AnomalyDataModule(benchmark, benchmark.tasks()[0], 1)
    cpu = torch.device("cpu")
    train, test = (
        torch.cat(list(image_batches(images, cpu, 512))).flatten(1)
        for images in (task.train_images, task.test_images)
    )
    labels = [item.label for item in task.split.test]
    gamma = 10 / (float(train.var(correction=0)) * train.shape[1])
    plain = KernelDensity(bandwidth=(1 / (2 * gamma)) ** 0.5).fit(train.numpy())
    return {
        "length 1": kde_auroc(train, test, labels),
        "as they are": float(roc_auc_score(labels, -plain.score_samples(test.numpy()))),
        BRIGHTNESS: float(roc_auc_score(labels, -test.mean(dim=1))),
    }


def step(name: str, data: Path) -> dict[str, Any]:
    """The cost of one step at the published batch size: arithmetic, and seconds here."""
    chosen = [*CIFAR, f"dataset.category={CLASSES[0]}", f"representation={name}"]
    plan = representation_plan(composed("two_stage", at(chosen, data)))
    torch.manual_seed(0)
    module = plan.module()
    batch = plan.batch_size
    image = torch.rand(batch, 3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        module.loss(image)[0].backward()
    seconds = []
    for _ in range(STEPS):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = module.loss(image)
        loss.backward()
        seconds.append(time.perf_counter() - started)
    return {
        "batch": batch,
        "flop": counter.get_total_flops(),
        "seconds": min(seconds),
        "threads": torch.get_num_threads(),
    }


def draw(results: dict[str, Any]) -> None:
    """Plot losses relative to chance, growth with epochs, and uniformity."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.6), layout="constrained")
    for key, one in results.items():
        if "curve" not in one:
            continue
        chance = one["stage1"]["chance"]
        fraction = np.linspace(0, 1, len(one["curve"]) + 1)[1:]
        style = "-" if key.startswith("mnist") else "--" if key.startswith("cifar") else ":"
        label = key.replace(" | ", " ")
        axes[0].plot(fraction, np.array(one["curve"]) / chance, style, label=label, lw=1.2)
    axes[0].axhline(1, color="0.5", lw=0.8)
    axes[0].set(title="loss over its chance level", xlabel="fraction of the epochs", ylabel="")
    axes[0].legend(fontsize=6, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    for name in CLASSES:
        one = results[f"cifar10 | {name} | rotation"]
        seen = one["watched"]
        (line,) = axes[1].plot(
            [look["epoch"] for look in seen],
            [100 * look["kde_auroc"] for look in seen],
            marker=".",
            label=name,
        )
        raw = best_raw(results[f"cifar10 | {name} | raw"])
        axes[1].axhline(100 * raw, color=line.get_color(), ls=":", lw=1)
    axes[1].set(
        title="rotation + KDE on CIFAR-10 (dotted: raw pixels)",
        xlabel="epoch",
        ylabel="image AUROC (%)",
    )
    axes[1].legend(fontsize=8)
    for name in SPHERES:
        seen = results[f"sphere | {CLASSES[0]} | {name}"]["watched"]
        epochs = [look["epoch"] for look in seen]
        for part, style in (("head", "-"), ("pooled", "--")):
            values = [look[f"uniformity_{part}"] for look in seen]
            axes[2].plot(epochs, values, style, marker=".", label=f"{name}, {part}")
    axes[2].set(title="uniformity of normal images on the sphere", xlabel="epoch", ylabel="")
    axes[2].legend(fontsize=7)
    figure.savefig(HERE / "two_stage.png", dpi=110)
    plt.close(figure)


def report(results: dict[str, Any]) -> str:
    """The page that shows the tables."""
    return "\n".join(
        [
            "# Two stages from scratch",
            "",
            "A representation learned only from the normal images of one class, then a density of",
            "it (Sohn et al. 2021). No pretrained weights. Image AUROC in per cent, one seed;",
            "stage 1 and features in bfloat16, everything else in float32.",
            "",
            f"Recorded until {date.today()} by `python -m experiments.two_stage.study --data DIR`",
            "on 2 CPU cores, with two threads (contrastive learning on digit 7 and airplane: one).",
            "Other work used the cores during most of automobile, parts of airplane and bird,",
            "rotation on digit 4, and contrastive learning, so their minutes are too long.",
            "",
            "![Losses, growth with epochs, uniformity](two_stage.png)",
            "",
            *digits_text(results),
            *classes_text(results),
            *sphere_text(results),
            *cost_text(results),
        ]
    )


def figures_table(columns: dict[str, dict[str, float]]) -> list[str]:
    """A row for each density, a column for each trial, and the mean."""
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    rows = []
    for name in names:
        values = [column.get(name) for column in columns.values()]
        known = [100 * value for value in values if value is not None]
        cells = ["–" if value is None else f"{100 * value:.1f}" for value in values]
        mean = f"{fmean(known):.1f}" if len(known) == len(values) else "–"
        rows.append([f"`{name}`", *cells, mean])
    return table(["density", *columns, "mean"], rows)


def digits_text(results: dict[str, Any]) -> list[str]:
    """MNIST: every density of both representations."""
    flipped = results[FLIPPED]
    lines = [
        "## MNIST, digits 3, 4 and 7",
        "",
        "The published random flip is left out. A mirrored digit is not a digit, and a 3 that is",
        "mirrored and rotated by 180 degrees is a 3 again, so its rotations would be ambiguous.",
        "With",
        "flips, the loss of rotation prediction on digit 3 stays at "
        f"{flipped['stage1']['loss']:.2f} (ln 2 = 0.69),",
        f"and KDE on pooled features at {100 * flipped['image_auroc']['kde_pooled']:.1f}.",
        "",
    ]
    for name in DIGITS:
        trials = {figure: results[f"mnist | {figure} | {name}"] for figure in FIGURES}
        columns = {str(figure): one["image_auroc"] for figure, one in trials.items()}
        facts = trials[FIGURES[0]]["stage1"]
        minutes = ", ".join(f"{one['seconds'] / 60:.1f}" for one in trials.values())
        losses = ", ".join(f"{one['stage1']['loss']:.2f}" for one in trials.values())
        lines += [
            f"`representation={name}`: {facts['n_train']} images, {facts['steps']} steps; both",
            f"stages with all densities took {minutes} minutes. Loss of the last epoch {losses}, "
            f"chance {facts['chance']:.2f}.",
            "",
            *figures_table(columns),
            "",
        ]
    return lines


def classes_text(results: dict[str, Any]) -> list[str]:
    """CIFAR-10: rotation against raw pixels."""
    trials = {name: results[f"cifar10 | {name} | rotation"] for name in CLASSES}
    raw = {name: results[f"cifar10 | {name} | raw"] for name in CLASSES}
    columns = {name: one["image_auroc"] for name, one in trials.items()}
    gains = {name: 100 * (columns[name]["kde_pooled"] - best_raw(raw[name])) for name in CLASSES}
    facts = trials[CLASSES[0]]["stage1"]
    minutes = ", ".join(f"{one['seconds'] / 60:.1f}" for one in trials.values())
    losses = ", ".join(f"{one['stage1']['loss']:.2f}" for one in trials.values())
    raws = [
        [f"raw pixels, KDE, {form}", *(f"{100 * raw[name][form]:.1f}" for name in CLASSES)]
        for form in FORMS
    ]
    raws.append([BRIGHTNESS, *(f"{100 * raw[name][BRIGHTNESS]:.1f}" for name in CLASSES)])
    return [
        "## CIFAR-10 subset, the first four classes by name",
        "",
        f"`representation=rotation`: {facts['n_train']} images a class, {facts['epochs']} epochs,",
        f"{facts['steps']} steps, {minutes} minutes with all densities. Loss of the last epoch",
        f"{losses}, chance {facts['chance']:.2f}.",
        "",
        *figures_table(columns),
        "",
        *table(["", *CLASSES], raws),
        "",
        "KDE on pooled features minus the better of the two on raw pixels: "
        + ", ".join(f"{name} {gain:+.1f}" for name, gain in gains.items())
        + ".",
        "The middle plot shows the growth; the mean over all classes is "
        + growth_text([one["watched"] for one in trials.values()])
        + ".",
        "",
        *airplane_text(results),
    ]


def growth_text(watched: list[list[dict[str, float]]]) -> str:
    """The mean AUROC of the untrained encoder, half way, and at the end."""
    indices = (0, len(watched[0]) // 2, -1)
    return ", ".join(
        f"{100 * fmean(seen[index]['kde_auroc'] for seen in watched):.1f} "
        f"(epoch {watched[0][index]['epoch']:.0f})"
        for index in indices
    )


def best_raw(raw: dict[str, float]) -> float:
    """The better of the kernel densities on raw pixels."""
    return max(raw[form] for form in FORMS)


def airplane_text(results: dict[str, Any]) -> list[str]:
    """The classes on which raw pixels do better."""
    lost = [
        name
        for name in CLASSES
        if results[f"cifar10 | {name} | rotation"]["image_auroc"]["kde_pooled"]
        <= best_raw(results[f"cifar10 | {name} | raw"])
    ]
    if not lost:
        return []
    named = [
        f"{name} ({100 * results[f'cifar10 | {name} | raw'][BRIGHTNESS]:.1f} by brightness alone)"
        for name in lost
    ]
    return [
        f"Raw pixels stay ahead on {', '.join(named)}. The sky behind airplanes is bright and",
        "even. If the loss stays near chance, rotations have hardly been learned at all.",
        "",
    ]


def sphere_text(results: dict[str, Any]) -> list[str]:
    """Uniformity with and without distribution augmentation."""
    rows = []
    for name in SPHERES:
        one = results[f"sphere | {CLASSES[0]} | {name}"]
        first, last = one["watched"][0], one["watched"][-1]
        parts = [
            f"{look[f'uniformity_{part}']:.2f}"
            for part in ("head", "pooled")
            for look in (first, last)
        ]
        auroc = [f"{100 * one['image_auroc'][f'kde_{part}']:.1f}" for part in ("head", "pooled")]
        facts = one["stage1"]
        rows.append([name, f"{facts['loss']:.2f} of {facts['chance']:.2f}", *parts, *auroc])
    titles = ["head, start", "head, end", "pooled, start", "pooled, end"]
    return [
        "## Uniformity",
        "",
        f"Contrastive learning on {CLASSES[0]}, the same steps with and without distribution",
        "augmentation. Uniformity is that of Wang & Isola (2020) with the opposite sign, on the",
        "unaugmented normal training images: 0 is a single point, about 4 is even on the sphere.",
        "",
        *table(["representation", "loss / chance", *titles, "KDE head", "KDE pooled"], rows),
        "",
    ]


def cost_text(results: dict[str, Any]) -> list[str]:
    """The cost of the published 2,048 epochs on CIFAR-10."""
    rows = []
    for name in ("rotation", *SPHERES):
        one = results[f"step | {name}"]
        enlarged = 4 if name == "contrastive_da" else 1
        steps = PAPER_EPOCHS * (CLASS_IMAGES * enlarged // one["batch"])
        days = steps * one["seconds"] / 86400
        hours = [f"{steps * one['flop'] / rate / 1e12 / 3600:.1f}" for rate in GPU_RATES]
        rows.append(
            [
                name,
                str(one["batch"]),
                f"{one['flop'] / 1e9:.0f}",
                f"{one['seconds']:.2f}",
                f"{steps:,}",
                f"{days:.1f}",
                *hours,
            ]
        )
    titles = ["representation", "images a step", "GFLOP a step", "s a step here", "steps a class"]
    rates = [f"GPU hours at {rate} TFLOP/s" for rate in GPU_RATES]
    return [
        "## What the published setting costs",
        "",
        f"{PAPER_EPOCHS:,} epochs of a CIFAR-10 class ({CLASS_IMAGES:,} images, four times as many",
        "instances under distribution augmentation) at the published batch size. The arithmetic of",
        "a step is counted (forward and backward), and its seconds are the minimum of "
        f"{STEPS} steps on {results['step | rotation']['threads']} thread(s) of this CPU in",
        "bfloat16. No GPU was available, so the hours assume a rate that a GPU would have to",
        "sustain.",
        "",
        *table([*titles, "days a class here", *rates], rows),
        "",
    ]


if __name__ == "__main__":
    main()
