"""Training of CFA compared with its plain form: ``python -m experiments.cfa_speed.study --help``.

The plain form does what the published code does: every step decodes its images, passes them through
the backbone, concatenates the levels, projects the result, and computes the gradient through the
distances to all centres. Our form reads cached levels, projects each at its own resolution and
computes the gradient only through the k + j distances. Both start from the same weights and bank
and use the same batches.
"""

from __future__ import annotations

import copy
import json
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch
from lightning import seed_everything
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import default_collate

from benchmarks.whole_runs import job_of
from experiments.trial import LEVELS_AS_THEY_ARE, cached_data, command_line, sets, table
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.detector import Detector
from occ_lab.features.levels import join
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole
from occ_lab.utils.memory import peak_mb, reset_peak

HERE = Path(__file__).parent
VARIANTS = {
    "ours": ["loss.half_selection=false"],
    "ours, neighbours by products in bfloat16": ["loss.half_selection=true"],
}


def main() -> None:
    """Time the steps of every variant in turn and write results.json and README.md."""
    parser = command_line(__doc__)
    parser.add_argument("--steps", type=int, default=12, help="default: %(default)s")
    arguments = parser.parse_args()
    keep_freed_memory()
    dataset = [*sets(arguments.data)["transistor"], "loss=cfa", LEVELS_AS_THEY_ARE]
    with tempfile.TemporaryDirectory() as folder:
        results = compared([*dataset, f"cache.dir={folder}"], arguments.steps)
    write_whole(HERE / "results.json", json.dumps(results, indent=1) + "\n")
    write_whole(HERE / "README.md", report(results))


def compared(overrides: list[str], steps: int) -> dict[str, Any]:
    """Seconds, losses and peak memory of each variant over the same steps."""
    job = job_of(overrides)
    data = cached_data(job, job.batch_size)
    seed_everything(0, verbose=False)
    start = job.detector(data.preprocessing)
    start.objective.setup(
        start.project(data.train_set.__getitems__(list(range(at, at + 4)))).detach()  # type: ignore[attr-defined]
        for at in range(0, 208, 4)
    )
    places = torch.randperm(len(data.train_images))[: 4 * steps].split(4)
    trained: dict[str, tuple[Detector, Any]] = {"plain": (start, Plain(start))}
    for name, more in VARIANTS.items():
        detector = job_of([*overrides, *more]).detector(data.preprocessing)
        detector.load_state_dict(copy.deepcopy(start.state_dict()))
        trained[name] = (detector, None)
    found: dict[str, Any] = {
        name: {"seconds": [], "losses": [], "peak_memory_mb": 0.0} for name in trained
    }
    optimizers = {name: detector.configure_optimizers() for name, (detector, _) in trained.items()}
    for batch in places:
        for name, (detector, plain) in trained.items():  # in turn, so that noise affects all alike
            optimizer: Any = optimizers[name]
            reset_peak()
            started = time.perf_counter()
            if plain:
                images = default_collate([data.train_images[int(index)] for index in batch])
                loss = plain.loss(images["image"])
            else:
                levels = data.train_set.__getitems__(batch.tolist())  # type: ignore[attr-defined]
                loss = detector.objective.loss(detector.project(levels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found[name]["seconds"].append(time.perf_counter() - started)
            found[name]["losses"].append(float(loss.detach()))
            found[name]["peak_memory_mb"] = max(found[name]["peak_memory_mb"], peak_mb() or 0.0)
    found["threads"] = torch.get_num_threads()
    found["where"] = profiled(trained["ours"][0], data, places)
    return found


class Plain:
    """The loss as the published code computes it, with this detector's weights and bank."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector

    def loss(self, image: Tensor) -> Tensor:
        """The loss of images ``[B, 3, h, w]``."""
        detector: Any = self.detector
        with torch.no_grad():
            f = join(detector.backbone(image))
        side = torch.linspace(-1, 1, f.shape[-1])
        grid = torch.stack(torch.meshgrid(side, side, indexing="ij"))[None]
        f = torch.cat([f, grid.expand(len(f), -1, -1, -1)], dim=1)
        projector = detector.projector
        weight = torch.cat(
            [projector.conv.weight, projector.coordinates.weight[..., None, None]], 1
        )
        z = torch.nn.functional.conv2d(f, weight, projector.conv.bias).flatten(2).transpose(1, 2)
        cfa = detector.objective
        centres = cfa.bank.T
        d = z.square().sum(2, keepdim=True) + centres.square().sum(0) - 2 * z @ centres
        d = d.topk(cfa.k + cfa.j, largest=False).values
        margin = cfa.radius**2
        attraction = torch.relu(d[..., : cfa.k] - margin).mean()
        repulsion = torch.relu(margin - d[..., cfa.k :] - cfa.alpha).mean()
        return (attraction + repulsion) / cfa.nu


def profiled(detector: Detector, data: AnomalyDataModule, places: Any) -> dict[str, float]:
    """The fraction of the time of our step that each operation takes, the largest first."""
    with profile(activities=[ProfilerActivity.CPU]) as measured:
        for batch in places[:4]:
            levels = data.train_set.__getitems__(batch.tolist())  # type: ignore[attr-defined]
            detector.objective.loss(detector.project(levels)).backward()
    times = {each.key: each.self_cpu_time_total for each in measured.key_averages()}
    whole = sum(times.values())
    largest = sorted(times, key=lambda key: -times[key])[:8]
    return {key: times[key] / whole for key in largest}


def report(results: dict[str, Any]) -> str:
    """The page that compares the speeds."""
    where = results["where"]
    plain = results["plain"]
    rows = []
    for name in ("plain", *VARIANTS):
        one = results[name]
        off = max(abs(a - b) / abs(b) for a, b in zip(one["losses"], plain["losses"], strict=True))
        ratios = sorted(p / o for p, o in zip(plain["seconds"], one["seconds"], strict=True))
        rows.append(
            [
                name,
                f"{1000 * min(one['seconds']):.0f}",
                f"{min(plain['seconds']) / min(one['seconds']):.2f}",
                f"{ratios[len(ratios) // 2]:.2f}",
                f"{off:.1e}",
                f"{one['peak_memory_mb']:.0f}",
            ]
        )
    fractions = [[name, f"{100 * fraction:.0f} %"] for name, fraction in where.items()]
    titles = ["form", "minimum ms a step", "speed-up by the minimum", "by the median ratio"]
    return "\n".join(
        [
            "# The speed of training CFA",
            "",
            "Transistor (256 px data), default backbone, "
            f"{len(plain['seconds'])} steps of 4 images,",
            "each step with every form in turn, from the same weights and memory bank.",
            "",
            f"Recorded {date.today()} by `python -m experiments.cfa_speed.study --data DIR`,",
            f"{results['threads']} thread(s).",
            "",
            *table([*titles, "largest difference of losses", "peak MB of the process"], rows),
            "",
            "The time of our step in float32 by operation, forward and backward:",
            "",
            *table(["operation", "fraction"], fractions),
            "",
        ]
    )


if __name__ == "__main__":
    main()
