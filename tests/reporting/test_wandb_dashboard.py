"""The definition of the dashboard, as sent to W&B."""

from __future__ import annotations

import json

import pytest

from occ_lab.reporting import wandb_dashboard
from occ_lab.utils.errors import InputError


def test_the_panels_show_what_runs_log() -> None:
    pytest.importorskip("wandb_workspaces")
    made = wandb_dashboard.dashboard("me", "occ-lab", "OCC Lab")
    assert (made.entity, made.project, made.name) == ("me", "occ-lab", "OCC Lab")
    spec = json.loads(made._to_model().spec.model_dump_json())
    text = json.dumps(spec)
    for shown in ("image_auroc", "pixel_auroc", "seconds", "config:loss.value.norm", "tasks"):
        assert shown in text
    titles = [section.name for section in made.sections]
    assert titles == ["Which norm", "Which objective", "Category by category"]


def test_without_a_network_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused:
        def save(self) -> None:
            raise ConnectionError("no route")

    monkeypatch.setattr(wandb_dashboard, "dashboard", lambda *_: Refused())
    with pytest.raises(InputError, match=r"did not accept the dashboard \(no route\).*wandb login"):
        wandb_dashboard.create("me", "p", "n")
    assert wandb_dashboard.main(["--entity", "me"]) == 1
