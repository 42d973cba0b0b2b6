"""What devices compute in and can hold: moments in full precision, float64 where it is possible."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from occ_lab.backbones.timm import TimmBackbone
from occ_lab.detector import Detector
from occ_lab.features.levels import root_mean_squares
from occ_lab.objectives import CFA, KDE, KNN, OCSVM, DeepSVDD, Gaussian, Norm, Objective, PaDiM
from occ_lab.objectives.norm.local_moments import LocalMoments
from occ_lab.objectives.norm.moments import Moments
from occ_lab.utils import precision, processes
from occ_lab.utils.precision import allow_tf32, full_precision

OBJECTIVES = {
    "norm, local": Norm,
    "norm, one projector": partial(Norm, cell=None, bias="flow", time="auto"),
    "norm, gradient": partial(Norm, solver="gradient"),
    "cfa": CFA,
    "svdd": DeepSVDD,
    "knn": partial(KNN, bank=50),
    "padim": partial(PaDiM, dims=4),
    "gaussian": Gaussian,
    "kde": partial(KDE, samples=50),
    "ocsvm": partial(OCSVM, samples=50),
}
MIXED = pytest.mark.parametrize("normalize", [False, True])


def levels(images: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(images, 3, 8, 8, generator=generator) + 20,
        torch.randn(images, 5, 4, 4, generator=generator),
    ]


def fitted(make: type[Objective], given: list[Tensor]) -> tuple[Objective, torch.nn.Module]:
    objective = make()
    projector = objective.default_projector([3, 5])
    objective.build(projector.out_channels)
    if objective.one_pass:
        objective.observe(given)
        objective.finish(projector)
    else:
        projector.setup([given])
        objective.setup([projector(given).detach()])
    return objective, projector


@MIXED
def test_moments_ignore_autocast(normalize: bool) -> None:
    for make in (partial(Moments, normalize), partial(LocalMoments, 4, normalize)):
        exact, mixed = make(), make()
        exact.update(levels())
        with torch.autocast("cpu", torch.bfloat16):
            mixed.update(levels())
        for one, other in zip(exact.buffers(), mixed.buffers(), strict=True):
            assert torch.equal(one, other)


def test_tf32_is_off_in_full_precision() -> None:
    allow_tf32("all")
    try:
        with full_precision(torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
        allow_tf32("none")
        assert not torch.backends.cudnn.allow_tf32
    finally:
        allow_tf32("convolutions")
    assert torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("name", OBJECTIVES)
def test_nothing_in_float64_moves_to_a_device_without_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The device meta in place of mps, which the machines of the tests do not have.
    monkeypatch.setattr(precision, "WITHOUT_FLOAT64", {"mps", "meta"})
    objective, projector = fitted(OBJECTIVES[name], levels())
    for module in (objective, projector):
        module.to("meta")
        for tensor in (*module.buffers(), *module.parameters()):
            assert tensor.device.type == "meta" or tensor.dtype == torch.float64
            assert tensor.device.type == "cpu" or tensor.dtype != torch.float64


def test_a_new_detector_moves_to_a_device_without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "WITHOUT_FLOAT64", {"mps", "meta"})
    detector = Detector(TimmBackbone("test_resnet", weights="random")).to("meta")
    apart = {name for name, each in detector.named_buffers() if each.device.type != "meta"}
    assert apart
    assert all("moments" in name or "local" in name for name in apart)
    assert not [p for p in detector.parameters() if p.dtype == torch.float64]


def test_sums_move_to_a_device_that_holds_them() -> None:
    assert all(each.device.type == "meta" for each in Norm().to("meta").buffers())


def test_a_sum_in_float64_is_taken_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = root_mean_squares([levels()])
    monkeypatch.setattr(precision, "WITHOUT_FLOAT64", {"cpu"})
    assert torch.equal(root_mean_squares([levels()]), expected)


def test_nccl_gets_no_tensor_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "nccl")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    cpu = torch.device("cpu")
    assert processes.reducing_device(cpu) == torch.device("cuda", 1)
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "gloo")
    assert processes.reducing_device(cpu) == cpu


def test_full_precision_ends_with_its_block() -> None:
    products = torch.backends.cuda.matmul
    before = products.allow_bf16_reduced_precision_reduction
    with full_precision(torch.device("cpu")):
        assert not products.allow_bf16_reduced_precision_reduction
    assert products.allow_bf16_reduced_precision_reduction == before
