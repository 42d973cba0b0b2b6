"""The benchmark command with tiny counts: its output is checked, not the speed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.own_images import RUNS
from benchmarks.page import LIMITS, export_page
from benchmarks.whole_runs import Effort


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bench ä")
    main(["--datasets", "textures", "--quick", "--out", str(out)])
    return out


def test_jobs_are_given_over_t0(results: Path) -> None:
    jobs = json.loads((results / "results.json").read_text(encoding="utf-8"))["jobs"]["textures"]
    assert list(jobs) == [
        "T₀",
        "closed form, cold",
        "closed form, warm",
        "local form, cold",
        "local form, warm",
        "2 closed forms, cold",
        "2 local forms, cold",
        "norm study, 1 norms, cold",
        "1 epochs, cold",
        "1 epochs, warm",
    ]
    for cost in jobs.values():
        assert cost["over_t0"] == pytest.approx(cost["seconds"] / jobs["T₀"]["seconds"])
        assert cost["peak_memory_mb"] is None or cost["peak_memory_mb"] > 0


def test_scoring_is_given_over_the_backbone(results: Path) -> None:
    content = json.loads((results / "results.json").read_text(encoding="utf-8"))
    assert list(content["scoring"]["textures"]) == ["closed form", "local form", "gradient"]
    for speed in content["scoring"]["textures"].values():
        alone, whole = speed["backbone_images_per_second"], speed["images_per_second"]
        assert speed["share_of_backbone"] == pytest.approx(whole / alone)


def test_parts_of_the_pass_are_those_of_all_kinds_of_image(results: Path) -> None:
    content = json.loads((results / "results.json").read_text(encoding="utf-8"))
    assert list(content["pass"]) == ["textures", "1024 px, png", "1024 px, jpg"]
    for parts in content["pass"].values():
        assert set(parts) == {"decode", "resize", "read, by threads", "backbone", "pass"}
        assert all(ms > 0 for ms in parts.values())


def test_exported_detectors_are_timed_beside_pytorch(results: Path) -> None:
    content = json.loads((results / "results.json").read_text(encoding="utf-8"))
    exported = content["export"]["textures"]
    assert list(exported) == ["raw, 2 at once", "tensor, 2 at once"]
    for speeds in exported.values():
        assert list(speeds) == ["PyTorch", "onnx", "torch_export", "openvino"]
        assert all(speed > 0 for speed in speeds.values())
    speeds = exported["raw, 2 at once"]
    page = (results / "README.md").read_text(encoding="utf-8")
    assert f"| {speeds['onnx'] / speeds['PyTorch']:.2f} |" in page


def test_a_format_that_is_not_installed_has_a_dash() -> None:
    speeds = {"PyTorch": 20.0, "onnx": None, "torch_export": 10.0, "openvino": None}
    page = export_page({"textures": {"raw, 1 at once": speeds}})
    assert "| textures | raw, 1 at once | 20 | – | 10 | – | – |" in page


def test_the_page_names_command_machine_and_figures(results: Path) -> None:
    content = json.loads((results / "results.json").read_text(encoding="utf-8"))
    page = (results / "README.md").read_text(encoding="utf-8")
    assert content["command"] in page
    assert content["date"] in page
    assert f"torch {content['machine']['torch']}" in page
    warm = content["jobs"]["textures"]["closed form, warm"]
    assert f"| {warm['seconds']:.2f} | {warm['over_t0']:.2f} | 0.25 |" in page


def test_the_limits_are_those_of_the_full_effort() -> None:
    effort = Effort()
    assert f"{len(effort.norms) * len(effort.seeds)} closed forms, cold" in LIMITS


def test_padding_tiling_and_calibration_are_given_over_the_pass(results: Path) -> None:
    content = json.loads((results / "results.json").read_text(encoding="utf-8"))["own"]
    assert list(content) == list(RUNS)
    for cost in content.values():
        assert cost["over_pass"] == pytest.approx(cost["seconds"] / cost["pass_seconds"])
    # 8 images of 640 × 480 px: in 256 × 192 px, and in 6 tiles of 256 px.
    assert content["whole"]["megapixels"] == pytest.approx(8 * 256 * 192 / 1e6)
    assert content["tiles of 256 px"]["megapixels"] == pytest.approx(8 * 6 * 256**2 / 1e6)
    assert all(f"| {name} |" in (results / "README.md").read_text("utf-8") for name in RUNS)
