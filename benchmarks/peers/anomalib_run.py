"""One method of anomalib on prepared images; runs in an environment that has anomalib.

python anomalib_run.py METHOD IMAGES WEIGHTS THREADS OUT, all made by `benchmarks.peers`. It imports
nothing of OCC Lab.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from anomalib.models import Cfa, Padim, Patchcore
from anomalib.models.components import TimmFeatureExtractor
from anomalib.models.image.cfa import torch_model as cfa
from anomalib.pre_processing import PreProcessor
from safetensors.torch import load_file
from torchvision.transforms.v2 import Normalize


def main() -> None:
    """Fit and test, each timed by the clock; then take the raw scores, which are not timed."""
    method, images, weights, threads, out = sys.argv[1:]
    torch.set_num_threads(int(threads))
    about = json.loads((Path(images) / "backbone.json").read_text())
    common = {
        "backbone": about["model"],
        "layers": about["layers"],
        "pre_trained": False,
        "pre_processor": PreProcessor(Normalize(about["mean"], about["std"])),
        "visualizer": False,
    }
    if method == "padim":
        model = Padim(n_features=about["channels"], **common)
    elif method == "cfa":
        model = cfa_with(about, common["pre_processor"])
    else:
        model = Patchcore(**common)
    extractor = model.model.feature_extractor
    network = getattr(extractor, "feature_extractor", extractor)
    missing = network.load_state_dict(load_file(weights), strict=False).missing_keys
    assert not missing, missing
    trained = {"max_epochs": about["epochs"]} if method == "cfa" else {}
    batches = {"train_batch_size": about["batch_size"]} if method == "cfa" else {}
    data = MVTecAD(root=images, category=about["category"], num_workers=0, **batches)
    engine = Engine(
        accelerator="cpu",
        devices=1,
        logger=False,
        default_root_dir=Path(out).with_suffix(""),
        **trained,
    )
    started = time.perf_counter()
    engine.fit(model=model, datamodule=data)
    fitted = time.perf_counter()
    (reported,) = engine.test(model=model, datamodule=data)
    tested = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    model.eval()
    found: dict[str, list[np.ndarray]] = {"scores": [], "maps": [], "labels": [], "masks": []}
    with torch.inference_mode():
        for batch in data.test_dataloader():
            said = model.model(model.pre_processor.transform(batch.image))
            found["scores"].append(said.pred_score.flatten().numpy())
            found["maps"].append(said.anomaly_map.squeeze(1).numpy())
            found["labels"].append(batch.gt_label.numpy())
            found["masks"].append(batch.gt_mask.numpy() > 0)
    np.savez(out, **{name: np.concatenate(parts) for name, parts in found.items()})
    figures = {
        "fit_seconds": fitted - started,
        "test_seconds": tested - fitted,
        "peak_mb": peak,
        "reported": {name: float(value) for name, value in reported.items()},
    }
    Path(out).with_suffix(".json").write_text(json.dumps(figures))


def cfa_with(about: dict[str, object], pre_processor: PreProcessor) -> Cfa:
    """CFA over any network of timm: anomalib has a table of four, one of which is replaced."""

    def extractor(backbone: str, return_nodes: list[str]) -> TimmFeatureExtractor:
        return TimmFeatureExtractor(about["model"], about["layers"], pre_trained=False)

    cfa.get_return_nodes = lambda backbone: about["layers"]
    cfa.get_feature_extractor = extractor
    model = Cfa("resnet18", pre_processor=pre_processor, visualizer=False)
    model.model.descriptor.layer = cfa.CoordConv2d(about["joined"], about["joined"], kernel_size=1)
    return model


if __name__ == "__main__":
    main()
