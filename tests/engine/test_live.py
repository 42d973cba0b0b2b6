"""A stream in a program: images in any form, from the first image or from a trained detector."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

import occ_lab
from occ_lab.backbones import TimmBackbone
from occ_lab.config.composition import composed
from occ_lab.config.train import perform_run
from occ_lab.data.tiling import Tiles
from occ_lab.data.transforms import Frame, Preprocessing, WholeImage
from occ_lab.detector import Detector
from occ_lab.engine.job import Job
from occ_lab.engine.live import Stream
from occ_lab.engine.reference import Reference
from occ_lab.engine.stream_images import ImageFiles
from occ_lab.engine.stream_plan import StreamPlan
from occ_lab.metrics.calibration import Calibration
from occ_lab.objectives import KNN, Norm
from occ_lab.utils.errors import InputError
from tests.data.trees import mvtec_tree, noise, save
from tests.test_stream import HERE


def detector(frame: Frame | None = None, **arguments: object) -> Detector:
    backbone = TimmBackbone("test_resnet", weights="random", strides=[8])
    return Detector(backbone, Norm(**{"time": 3.0, **arguments}), preprocessing=frame)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated run that keeps its moments."""
    folder = tmp_path_factory.mktemp("run")
    mvtec_tree(folder / "parts", train=9)
    overrides = ["dataset=mvtec", f"dataset.root='{folder}/parts'", "calibration.folds=3"]
    asked = [*overrides, "calibration.overkill=0.2", "moments=true"]
    perform_run(composed("train", [*HERE, *asked]), folder / "run")
    return folder / "run"


def test_an_image_may_have_any_form(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    path = save(tmp_path / "1.png", pixels)
    forms = [path, str(path), Image.open(path), pixels, torch.from_numpy(pixels).movedim(2, 0)]
    found = []
    for form in forms:
        stream = Stream(detector(), StreamPlan(learn=True), side=64)
        stream.push(noise(1))
        found.append(stream.push(form))
        assert found[-1].map is not None
        assert found[-1].map.shape == (48, 64)
        assert stream.push(form, maps=False).map is None
    assert len({verdict.score for verdict in found}) == 1
    with pytest.raises(ValueError, match="no image"):
        stream.push(np.zeros(3))
    with pytest.raises(OSError, match="nowhere.png"):
        stream.push(tmp_path / "nowhere.png")


def test_a_new_detector_sees_images_whole_in_the_frame_of_the_first() -> None:
    stream = Stream(detector(), side=64)
    stream.push(np.zeros((96, 192, 3), np.uint8))
    assert stream.detector.preprocessing == WholeImage(32, 64)
    deep = Stream(detector(), side=64)
    deep.push(np.full((64, 64), 3000, np.uint16))
    assert deep.detector.frame.range == (0, 4095)


def test_files_of_a_camera_with_more_bits_have_the_range_of_the_first(tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 64), 3000, np.uint16)).save(tmp_path / "12.png")
    stream = Stream(detector(), side=64)
    stream.push(tmp_path / "12.png")
    assert stream.detector.frame.range == (0, 4095)
    given = Stream(detector(), side=64, range=(0, 65535))
    given.push(tmp_path / "12.png")
    assert given.detector.frame.range == (0, 65535)


def test_it_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    plan = StreamPlan(overkill=0.3, refresh=0.5)
    whole, first = (Stream(detector(), plan, side=64) for _ in range(2))
    expected = [whole.push(noise(number)) for number in range(7)]
    for number in range(4):
        first.push(noise(number))
    first.save(tmp_path / "state.safetensors")
    plan = replace(plan, states=[tmp_path / "state.safetensors"])
    second = Stream(detector(), plan)
    for number, before in zip(range(4, 7), expected[4:], strict=True):
        found = second.push(noise(number))
        assert (found.score, found.p_value, found.decision) == (
            before.score,
            before.p_value,
            before.decision,
        )
    with pytest.raises(InputError, match="learned with height 64, not 32"):
        Stream(detector(WholeImage(32, 64)), plan)


def test_a_state_brings_its_frame(tmp_path: Path) -> None:
    for frame in (Preprocessing(64, 48), WholeImage(32, 64), Tiles(64, 16, range=(0, 4095))):
        first = Stream(detector(frame))
        first.push(noise(0, 90))
        first.save(tmp_path / "state.safetensors")
        second = Stream(detector(), StreamPlan(states=[tmp_path / "state.safetensors"]))
        assert second.detector.frame == frame
        assert second.push(noise(1, 90)).score == first.push(noise(1, 90)).score


def test_a_run_judges_as_it_does_and_learns_what_it_accepts(run: Path) -> None:
    stream = Stream.load(run)
    known = occ_lab.load(run)
    assert stream.online is not None
    assert stream.online.images == 9
    assert stream.overkill == 0.2
    pushed, judged = stream.push(noise(50)), known.score(noise(50))
    assert pushed.score == pytest.approx(float(judged.image), rel=1e-5)
    assert judged.p_values is not None
    assert judged.anomalous is not None
    assert pushed.p_value == float(judged.p_values)
    assert (pushed.decision == "reject") == bool(judged.anomalous)
    spoilt = noise(51).copy()
    spoilt[16:40, 16:40] = 255
    rejected = stream.push(spoilt)
    assert (rejected.decision, rejected.learned) == ("reject", False)
    assert stream.online.images == 9 + pushed.learned


def test_what_it_has_learned_equals_a_fit_to_all(run: Path, tmp_path: Path) -> None:
    stream = Stream.load(run, plan=StreamPlan(refuse=0, refresh=0))
    for number in range(3):
        stream.push(noise(300 + number))
    stream.solve(always=True)
    mvtec_tree(tmp_path / "parts", train=9)
    for number in range(3):
        save(tmp_path / "parts" / "bolt" / "train" / "good" / f"1{number}.png", noise(300 + number))
    overrides = ["dataset=mvtec", f"dataset.root='{tmp_path}/parts'"]
    perform_run(composed("train", [*HERE, *overrides]), tmp_path / "batch")
    expected = occ_lab.load(tmp_path / "batch").score(noise(7)).image
    found = stream.detector.score(noise(7)).score
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_run_without_moments_judges_and_stays_as_it_is(run: Path, tmp_path: Path) -> None:
    stream = Stream.load(run, plan=StreamPlan(learn=False))
    assert stream.online is None
    first = stream.push(noise(50))
    assert not first.learned
    assert stream.push(noise(50)) is not first
    assert stream.push(noise(50)).score == first.score
    moments = run / "tasks" / "bolt" / "moments.safetensors"
    moments.rename(tmp_path / "moved.safetensors")
    try:
        frozen = Stream.load(run)
    finally:
        (tmp_path / "moved.safetensors").rename(moments)
    assert frozen.online is None
    assert frozen.push(noise(50)).p_value == first.p_value


def test_a_detector_that_was_fitted_here_goes_on_learning() -> None:
    made = detector(Preprocessing(64, 64))
    levels = made.backbone(torch.rand(4, 3, 64, 64))
    made.objective.observe(levels)
    made.objective.finish(made.projector)
    stream = Stream(made)
    assert stream.push(noise(0)).score is not None
    assert stream.online is not None
    assert stream.online.images == 5


def test_any_other_detector_judges_by_the_first_images() -> None:
    other = Detector(
        TimmBackbone("test_resnet", weights="random"), KNN(), preprocessing=Preprocessing(64, 64)
    )
    other.objective.observe(other.backbone(torch.rand(2, 3, 64, 64)))
    other.objective.finish(other.projector)
    stream = Stream(other, StreamPlan(overkill=0.25))
    found = [stream.push(noise(number)) for number in range(4)]
    assert [verdict.decision is None for verdict in found] == [True, True, True, False]
    assert not any(verdict.learned for verdict in found)


def test_a_score_that_is_not_finite_gives_no_verdict() -> None:
    stream = Stream(detector(), side=64)
    with pytest.raises(ValueError, match="the score is not finite"):
        stream.judged(float("nan"), None)
    assert not stream.reference.scores


def test_a_rate_that_cannot_be_kept_is_refused(run: Path) -> None:
    with pytest.raises(InputError, match="window: .* 0.01 needs at least 99 scores, got 50"):
        Stream(detector(), StreamPlan(window=50))
    with pytest.raises(InputError, match="overkill: 0.05 needs at least 19 .* the run has 9"):
        Stream.load(run, plan=StreamPlan(overkill=0.05))


def test_a_state_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    stream = Stream(detector(), side=64)
    for number in range(3):
        stream.push(noise(number))
    stream.save(tmp_path / "new.safetensors")
    with safe_open(tmp_path / "new.safetensors", "pt") as file:
        facts = json.loads(file.metadata()["occ_lab"])
        kept = {name: file.get_tensor(name) for name in file.keys() if name != "peaks"}  # noqa: SIM118
    del facts["fixed"], facts["failed"], facts["re_solves"], facts["checksum"]
    save_file(kept, tmp_path / "old.safetensors", {"occ_lab": json.dumps(facts)})
    again = Stream(detector(), StreamPlan(states=[tmp_path / "old.safetensors"]))
    assert again.push(noise(3)).score == stream.push(noise(3)).score
    assert again.reference.peaks == stream.reference.peaks


def test_moments_are_kept_of_the_closed_form_alone() -> None:
    backbone = TimmBackbone("test_resnet", weights="random")
    with pytest.raises(InputError, match="moments: only the norm-space objective.*not KNN"):
        Job([ImageFiles([], 64)], backbone, KNN, moments=True).check()


def test_rejecting_does_not_move_the_threshold() -> None:
    """If each accepted image replaced an earlier one, the threshold would fall and fall."""
    random = np.random.default_rng(0)
    reference = Reference(window=100, rate=0.05, scaled=True)
    rejected = 0  # 3,500 by such a rule
    for score in random.lognormal(0, 0.2, 5000).tolist():
        rejects = reference.decided and reference.p_value(score) <= 0.05
        reference.add(score, score, accepted=not rejects)
        rejected += rejects
    assert 50 < rejected < 750
    assert len(reference.scores) == 100


def test_the_reference_follows_scores_that_fall_and_not_those_that_rise() -> None:
    scores = torch.arange(1.0, 101.0)
    reference = Reference(20, 0.1, Calibration.of(scores, 2 * scores), scaled=True)
    for _ in range(19):
        reference.add(22.75, 50.0, accepted=True)  # half of the median of scores up to 90
    reference.add(500.0, 500.0, accepted=False)
    assert reference.calibration.scores.tolist() == scores.tolist()  # not enough of them
    reference.add(22.75, 50.0, accepted=True)
    assert reference.calibration.scores.tolist() == pytest.approx((scores / 2).tolist())
    assert reference.calibration.peaks.tolist() == pytest.approx(scores.tolist())
    for _ in range(20):
        reference.add(80.0, 80.0, accepted=True)
    assert reference.calibration.scores.tolist() == scores.tolist()
    still = Reference(20, 0.1, Calibration.of(scores, scores))
    for _ in range(20):
        still.add(22.75, 50.0, accepted=True)
    assert still.calibration.scores.tolist() == scores.tolist()


def test_the_scores_of_a_calibration_stay() -> None:
    scores = torch.arange(1.0, 20.0)
    reference = Reference(200, 0.05, Calibration.of(scores, scores + 1))
    reference.add(100.0, 100.0, accepted=False)
    assert reference.p_value(19.5) == pytest.approx(0.05)
    assert reference.pixel_threshold == 20.0
