"""The detector as a LightningModule in a user's own program."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import occ_lab
from occ_lab.backbones import Backbone, LeNet, TimmBackbone
from occ_lab.data.batches import as_batch
from occ_lab.data.datasets.textures import Textures
from occ_lab.detector import Detector
from occ_lab.engine.fit import fitted
from occ_lab.engine.job import Job
from occ_lab.objectives import CFA, KDE, KNN, OCSVM, DeepSVDD, Gaussian, Norm, Objective, PaDiM
from occ_lab.postprocessing.prediction import Prediction
from occ_lab.projectors import LocalProjector, MakeProjector
from occ_lab.utils.errors import InputError
from tests import warm

OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "norm": Norm,
    "norm_mean": partial(Norm, solver="gradient", target="mean"),
    "norm_closed_form": partial(Norm, solver="closed_form"),
    "cfa": CFA,
    "cfa_memory": partial(CFA, attract=False, repel=False),
    "svdd": DeepSVDD,
    "svdd_soft": partial(DeepSVDD, boundary="soft", warmup=0),
    "knn": partial(KNN, bank=200),
    "padim": PaDiM,
    "gaussian": Gaussian,
    "kde": partial(KDE, samples=200),
    "ocsvm": partial(OCSVM, samples=200),
}
GRADIENT = partial(Norm, solver="gradient")
LOCAL = partial(LocalProjector, cell=4)
SIZES = {"train": 8, "normal": 4, "defective": 5, "resize": 64, "crop": 64}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("textures")


@pytest.fixture
def data(folder: Path) -> L.LightningDataModule:
    return occ_lab.data.Textures(root=folder, category="brick", batch_size=4, **SIZES)


def backbone() -> TimmBackbone:
    return TimmBackbone("test_resnet", weights="random")


def trainer(folder: Path, **settings: object) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    defaults = {"max_epochs": 1, "accelerator": "cpu", "enable_checkpointing": False, **quiet}
    return L.Trainer(default_root_dir=folder, **{**defaults, **settings})


def fit(objective: Objective, data: L.LightningDataModule, folder: Path) -> Detector:
    L.seed_everything(0)
    detector = Detector(backbone(), objective)
    trainer(folder).fit(detector, datamodule=data)
    return detector


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_program_of_the_contract(
    name: str, data: L.LightningDataModule, folder: Path, tmp_path: Path
) -> None:
    detector = fit(OBJECTIVES[name](), data, tmp_path)
    run = trainer(tmp_path)
    (metrics,) = run.test(detector, datamodule=data, verbose=False)
    (again,) = run.test(detector, datamodule=data, verbose=False)
    assert metrics == again
    assert {"image_auroc", "pixel_auroc", "pixel_aupro"} <= set(metrics)

    job = Job([Textures(root=folder, category="brick", **SIZES)], backbone(), OBJECTIVES[name])
    ours = fitted(
        Job(**{**job.__dict__, "max_epochs": 1, "batch_size": 4}),
        job.benchmark,
        "brick",
        [],
        [],
        tmp_path / "ours.ckpt",
    )
    assert metrics == pytest.approx(ours.recorder.metrics, abs=1e-6)

    predictions = run.predict(detector, datamodule=data)
    assert predictions is not None
    (batch,) = predictions
    assert isinstance(batch, Prediction)
    assert batch.map is not None
    assert batch.label is not None
    assert batch.path is not None
    assert (len(batch.score), batch.map.shape, len(batch.path)) == (9, (9, 64, 64), 9)
    assert batch.label.tolist() == [int("good" not in path) for path in batch.path]

    run.save_checkpoint(tmp_path / "last.ckpt")
    loaded = Detector.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    scored = loaded.score(Path(path) for path in batch.path)
    torch.testing.assert_close(scored.score, batch.score, rtol=1e-4, atol=1e-5)
    size = scored.map.shape[-2:]  # that of the files
    of_files = F.interpolate(batch.map[:, None], size, mode="bilinear")[:, 0]
    torch.testing.assert_close(scored.map, of_files, rtol=1e-4, atol=1e-5)


ONE_PASS = ["norm_closed_form", "padim", "cfa_memory"]
BY_GRADIENT = ["norm_mean", "svdd", "local"]
PROGRAM = """
import json, sys
from tests.test_detector import BY_GRADIENT, ONE_PASS, measured

if __name__ == "__main__":
    found = {name: measured(sys.argv[1], name, 2) for name in ONE_PASS + BY_GRADIENT}
    if found["padim"] is not None:
        print(json.dumps(found))
"""


def measured(folder: str, name: str, devices: int) -> dict[str, float] | None:
    """The metrics of a fit in one process or two; None in the second of two."""
    data = occ_lab.data.Textures(root=folder, category="brick", batch_size=4 // devices, **SIZES)
    L.seed_everything(0)
    local = LOCAL if name == "local" else None
    detector = occ_lab.Detector(backbone(), OBJECTIVES.get(name, GRADIENT)(), local)
    run = trainer(Path(folder), devices=devices, strategy="ddp" if devices > 1 else "auto")
    run.fit(detector, datamodule=data)
    (metrics,) = run.test(detector, datamodule=data, verbose=False)
    return dict(metrics) if run.is_global_zero else None


@pytest.fixture(scope="module")
def in_two_processes(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, float]]:
    """The metrics of fits in one pair of processes, by the names of their objectives."""
    script = tmp_path_factory.mktemp("two") / "program.py"
    script.write_text(PROGRAM)
    root = Path(__file__).resolve().parents[1]
    above = {"PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"}
    asked = [str(script), str(folder)]
    first, second = warm.run_in_two(asked, folder, {**os.environ, **above})
    for done in (first, second):
        assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, float]] = json.loads(first.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", ONE_PASS)
def test_two_processes_find_the_same(
    name: str, folder: Path, in_two_processes: dict[str, dict[str, float]]
) -> None:
    """Objectives of one pass add up exactly, whichever process has seen which image."""
    assert in_two_processes[name] == pytest.approx(measured(str(folder), name, 1), abs=2e-3)


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_two_processes_train_by_gradient(
    name: str, in_two_processes: dict[str, dict[str, float]]
) -> None:
    assert 0 <= in_two_processes[name]["image_auroc"] <= 1


def test_plain_loaders_and_any_batch(tmp_path: Path) -> None:
    """Images with labels, or images alone, without a data module of ours."""
    images = torch.rand(6, 3, 64, 64)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    train = DataLoader(TensorDataset(images, torch.zeros(6)), batch_size=2, shuffle=True)
    test = DataLoader(TensorDataset(images, labels), batch_size=4)
    for objective in (DeepSVDD(), CFA(), PaDiM()):
        detector = Detector(backbone(), objective)
        run = trainer(tmp_path)
        run.fit(detector, train)
        (metrics,) = run.test(detector, test, verbose=False)
        assert set(metrics) == {"image_auroc", "image_ap", "image_f1max"}
        predictions = run.predict(detector, DataLoader(images, batch_size=3))
        assert predictions is not None
        assert [len(batch.score) for batch in predictions] == [3, 3]


@pytest.mark.parametrize("objective", [GRADIENT, DeepSVDD])
@pytest.mark.parametrize("plain", [False, True])
def test_a_projector_for_every_cell_is_trained(
    objective: Callable[[], Objective],
    plain: bool,
    data: L.LightningDataModule,
    tmp_path: Path,
) -> None:
    """With a data module, and with a loader of images of another size than the default one."""
    images = torch.rand(6, 3, 48, 64)
    L.seed_everything(0)
    detector = Detector(backbone(), objective(), LOCAL)
    run = trainer(tmp_path)
    run.fit(detector, DataLoader(images, batch_size=2) if plain else data)
    weight = detector.projector.weight
    assert len(weight) == (12 if plain else 16)
    assert bool((weight[1:] != weight[:1]).any())
    assert detector.trainable > weight.numel()
    run.save_checkpoint(tmp_path / "local.ckpt")
    loaded = Detector.load_from_checkpoint(tmp_path / "local.ckpt", weights_only=True)
    scored = images if plain else torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(scored), detector.eval()(scored))


def test_cells_of_another_size_than_the_closed_form_has(
    data: L.LightningDataModule, tmp_path: Path
) -> None:
    closed = Norm(solver="closed_form", time=3.0, cell=4)
    detector = Detector(backbone(), closed, partial(LocalProjector, cell=2))
    with pytest.raises(InputError, match="cells of 2 .* but the objective has cells of 4"):
        trainer(tmp_path).fit(detector, datamodule=data)


def test_a_batch_of_another_form_is_refused() -> None:
    with pytest.raises(InputError, match="a pair of images and labels"):
        as_batch((torch.zeros(1), torch.zeros(1), torch.zeros(1)))


def test_test_batches_need_labels(data: L.LightningDataModule, tmp_path: Path) -> None:
    detector = fit(PaDiM(), data, tmp_path)
    with pytest.raises(InputError, match="need a label"):
        trainer(tmp_path).test(detector, DataLoader(torch.rand(2, 3, 64, 64)))


@pytest.mark.parametrize(("objective", "projector"), [(CFA, None), (GRADIENT, LOCAL)])
def test_training_resumes_to_the_same_bits(
    objective: Callable[[], Objective],
    projector: MakeProjector | None,
    data: L.LightningDataModule,
    tmp_path: Path,
) -> None:
    """Three epochs at once, and two epochs, a stop, and the third one."""

    def trained(epochs: int, resume: Path | None = None) -> dict[str, Tensor]:
        L.seed_everything(0)
        detector = Detector(backbone(), objective(), projector)
        saving = ModelCheckpoint(tmp_path, f"at{epochs}", save_on_train_epoch_end=True)
        run = trainer(tmp_path, max_epochs=epochs, callbacks=[saving], enable_checkpointing=True)
        run.fit(detector, datamodule=data, ckpt_path=resume, weights_only=True)
        return {name: value.clone() for name, value in detector.state_dict().items()}

    whole = trained(3)
    trained(2)
    resumed = trained(3, tmp_path / "at2.ckpt")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_held_out_normal_images_stop_the_training_early(folder: Path, tmp_path: Path) -> None:
    sizes = {**SIZES, "batch_size": 2, "validation": 0.25}
    data = occ_lab.data.Textures(root=folder, category="brick", **sizes)
    # No step can be an improvement of a million, so that training stops when patience ends.
    stop = EarlyStopping("val_loss", patience=2, min_delta=1e6)
    run = trainer(tmp_path, max_epochs=50, callbacks=[stop])
    run.fit(Detector(backbone(), DeepSVDD()), datamodule=data)
    assert run.current_epoch == 3
    assert "val_loss" in run.callback_metrics


def test_an_unknown_monitor_fails(data: L.LightningDataModule, tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[EarlyStopping("val_los")])
    with pytest.raises(RuntimeError, match="val_los"):
        run.fit(Detector(backbone(), DeepSVDD()), datamodule=data)


def test_a_trained_backbone_sees_the_images_first(folder: Path, tmp_path: Path) -> None:
    sizes = {**SIZES, "resize": 28, "crop": 28}
    data = occ_lab.data.Textures(root=folder, category="brick", batch_size=4, **sizes)
    detector = Detector(LeNet(), DeepSVDD(), occ_lab.projectors.Identity)
    before = float(detector.backbone.high)
    trainer(tmp_path).fit(detector, datamodule=data)
    assert float(detector.backbone.high) != before
    assert detector.trainable > 0


class Foreign(Backbone):
    """A backbone of a user's own, trained, whose argument cannot be stored."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__("foreign")
        self.channels = [4]
        self.layer = layer

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.layer(image)]


def test_what_a_checkpoint_cannot_describe_is_given_again(tmp_path: Path) -> None:
    def foreign() -> Foreign:
        return Foreign(torch.nn.Conv2d(3, 4, 8, 8))

    detector = Detector(foreign(), DeepSVDD())
    run = trainer(tmp_path)
    run.fit(detector, DataLoader(torch.rand(4, 3, 32, 32), batch_size=2))
    run.save_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    with pytest.raises(InputError, match="give the object itself"):
        Detector.load_from_checkpoint(tmp_path / "last.ckpt")
    loaded = Detector.load_from_checkpoint(tmp_path / "last.ckpt", backbone=foreign())
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(loaded.eval()(images).score, detector.eval()(images).score)


def test_a_class_of_ones_own_needs_trust(tmp_path: Path) -> None:
    detector = Detector(backbone(), Own())
    run = trainer(tmp_path)
    run.fit(detector, DataLoader(torch.rand(4, 3, 32, 32), batch_size=2))
    run.save_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    with pytest.raises(InputError, match=r"trust=\[tests\]"):
        Detector.load_from_checkpoint(tmp_path / "last.ckpt")
    loaded = Detector.load_from_checkpoint(tmp_path / "last.ckpt", trust=["tests"])
    assert isinstance(loaded.objective, Own)
    assert loaded.objective.power == 3


class Own(Objective):
    """An objective of a user's own: the size of the feature, to a power."""

    def __init__(self, power: int = 3) -> None:
        super().__init__()
        self.power = power

    def forward(self, z: Tensor) -> Tensor:
        return z.abs().pow(self.power).mean(dim=1)

    def loss(self, z: Tensor) -> Tensor:
        return self(z).mean()


def test_features_are_scored_without_a_trainer() -> None:
    detector = Detector(backbone(), GRADIENT()).eval()
    with torch.no_grad():
        levels = detector.backbone(torch.rand(2, 3, 64, 64))
        patch_scores, maps, scores = detector.batch_scores({"levels": levels})
        expected = detector.maps_and_scores(detector.score_levels(levels))
    assert torch.equal(patch_scores, detector.score_levels(levels))
    assert torch.equal(maps, expected[0])
    assert torch.equal(scores, expected[1])


def test_scores_of_images_in_any_form(tmp_path: Path) -> None:
    detector = Detector(backbone(), GRADIENT(), preprocessing=occ_lab.data.Preprocessing(64, 64))
    pixels = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "part.png")
    forms = [
        tmp_path / "part.png",
        str(tmp_path / "part.png"),
        Image.fromarray(pixels),
        pixels,
        pixels[None],
        torch.from_numpy(pixels).permute(2, 0, 1),
        tmp_path.glob("*.png"),
        (each for each in [pixels]),
        [pixels],
    ]
    scores = [detector.score(form) for form in forms]
    assert all(torch.equal(found.score, scores[0].score) for found in scores)
    assert detector.score(pixels, maps=False).map is None
    for empty in ([], np.empty((0, 8, 8, 3), np.uint8), np.empty((0,), np.uint8)):
        with pytest.raises(ValueError, match="no image"):
            detector.score(empty)


def test_the_same_frame_as_in_the_fit(data: L.LightningDataModule, tmp_path: Path) -> None:
    detector = fit(PaDiM(), data, tmp_path)
    assert (detector.frame.resize, detector.frame.crop) == (64, 64)
