"""The definition of the dashboard, as sent to W&B."""

from __future__ import annotations

import json

import pytest

from occ_lab.config.composition import composed
from occ_lab.reporting import wandb_dashboard
from occ_lab.utils.errors import InputError

COMPARED = ("loss.value.norm", "loss.value.name", "backbone.value.name", "dataset.value.name")


def test_the_panels_show_what_runs_log() -> None:
    pytest.importorskip("wandb_workspaces")
    made = wandb_dashboard.dashboard("me", "occ-lab", "OCC Lab")
    assert (made.entity, made.project, made.name) == ("me", "occ-lab", "OCC Lab")
    spec = json.loads(made._to_model().spec.model_dump_json())
    text = json.dumps(spec)
    logged = ("image_auroc", "pixel_auroc", "seconds", '"tasks"', '"predictions"')
    for shown in (*logged, *(f"config:{key}" for key in COMPARED)):
        assert shown in text
    titles = [section.name for section in made.sections]
    assert titles[:4] == ["Which norm", "Which objective", "Which backbone", "Which dataset"]


def test_what_it_compares_by_is_in_the_configuration_of_a_run() -> None:
    cfg = composed("train", ["logger=wandb"])
    for key in COMPARED:
        part, value, name = key.split(".")
        assert value == "value"  # W&B keeps each key's value so
        assert cfg[part][name] is not None


def test_without_a_network_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused:
        def save(self) -> None:
            raise ConnectionError("no route")

    monkeypatch.setattr(wandb_dashboard, "dashboard", lambda *_: Refused())
    with pytest.raises(InputError, match=r"did not accept the dashboard \(no route\).*wandb login"):
        wandb_dashboard.create("me", "p", "n")
    assert wandb_dashboard.main(["--entity", "me"]) == 1
