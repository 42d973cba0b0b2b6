"""Whole images in a graph: the tensor operations give the same results as the detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from occ_lab.backbones import TimmBackbone
from occ_lab.data.generated import made_image
from occ_lab.data.transforms import WholeImage
from occ_lab.deploy.export import export
from occ_lab.deploy.graph import Deployed
from occ_lab.deploy.whole import fitted
from occ_lab.detector import Detector
from occ_lab.inference.predictor import Predictor
from occ_lab.objectives.norm.objective import Norm
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.utils.errors import InputError

SIZES = [(48, 64), (96, 128), (30, 90), (200, 40), (61, 47), (7, 300)]


@pytest.mark.parametrize("size", [*SIZES, (3, 2), (500, 333)])
def test_pixels_are_those_of_pillow(size: tuple[int, int]) -> None:
    frame = WholeImage(48, 64)
    image = made_image(1, *size)
    pixels, box = fitted(torch.from_numpy(image)[None], frame.size)
    assert tuple(box.tolist()) == frame.box(*size)
    np.testing.assert_array_equal(pixels[0].permute(1, 2, 0).numpy(), frame(image))


def detector(postprocess: PostProcess) -> Detector:
    backbone = TimmBackbone("test_resnet", weights="random", strides=[4, 8])
    return Detector(
        backbone,
        Norm(solver="gradient"),
        postprocess=postprocess,
        preprocessing=WholeImage(48, 64),
    ).eval()


@pytest.mark.parametrize("how", [PostProcess(), PostProcess("top", 0.02, 2.0)])
def test_scores_and_maps_are_those_of_the_detector(how: PostProcess) -> None:
    own = detector(how)
    deployed = Deployed(own, raw=True).eval()
    for size in SIZES:
        image = made_image(2, *size)
        expected = own.score_pixels(own.frame(image)[None], [size])
        with torch.no_grad():
            found = deployed(torch.from_numpy(image)[None])
        torch.testing.assert_close(found["score"], expected.score, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found["map"], expected.map, rtol=1e-4, atol=1e-5)


def test_a_file_for_whole_images_is_checked_with_images_of_several_shapes(tmp_path: Path) -> None:
    predictor = Predictor(detector(PostProcess()), "parts")
    made = export(predictor, tmp_path / "parts.onnx", format="onnx", input="raw")
    assert set(made.differences) == {"score", "map"}


def test_scores_of_patches_need_resized_images(tmp_path: Path) -> None:
    predictor = Predictor(detector(PostProcess("patches")), "parts")
    with pytest.raises(InputError, match=r"^input: .* export tensor instead"):
        export(predictor, tmp_path / "parts.onnx", format="onnx", input="raw")
