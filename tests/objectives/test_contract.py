"""Properties of every objective."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch

from occ_lab import objectives
from occ_lab.features.levels import join
from occ_lab.objectives import (
    CFA,
    KDE,
    KNN,
    OCSVM,
    DeepSVDD,
    Gaussian,
    Mixture,
    Norm,
    Objective,
    PaDiM,
    RotationScore,
    Subspace,
)
from occ_lab.objectives.base import mean_feature
from occ_lab.projectors import Projector
from occ_lab.utils.errors import InputError
from occ_lab.utils.specs import made_of, spec_of

CHANNELS = [2, 2]  # four in all, which the score of rotations needs
KINDS = [CFA, DeepSVDD, Gaussian, KDE, KNN, Norm, OCSVM, PaDiM, RotationScore]
OTHERS = [
    CFA(attract=False, repel=False, bank_compression=2),
    DeepSVDD("soft", nu=0.3, warmup=0),
    Gaussian(shrinkage=0.1, normalize=True),
    KDE(samples=50, scale=1.0, seed=3),
    KNN(bank=40, coreset="greedy", k=2, metric="cosine"),
    KNN(window=1),
    Mixture(Norm(), components=2),
    Mixture(Gaussian(shrinkage=0.1), most=2, seed=1),
    Norm(4, "gradient", norm=3.0, p=float("inf"), target="ones", squared=True),
    Norm(solver="gradient", target="mean"),
    Norm(time="auto", normalize=True),
    Norm(time=3, cell=None, bias="flow"),
    OCSVM("linear", samples=60),
    PaDiM(dims=3, seed=1),
    Subspace(explained=0.7),
]
every = pytest.mark.parametrize(
    "objective",
    [*(kind() for kind in KINDS), *OTHERS],
    ids=lambda objective: f"{type(objective).__name__}({objective.arguments})",
)


def levels(seed: int, images: int = 12) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.rand(images, channels, side, side, generator=generator) + 0.1
        for channels, side in zip(CHANNELS, (6, 3), strict=True)
    ]


def fitted(objective: Objective, seed: int = 0) -> tuple[Objective, Projector]:
    """A fitted copy of the objective, as in a detector, and its projector."""
    objective = copy.deepcopy(objective)
    torch.manual_seed(seed)
    projector = objective.default_projector(CHANNELS)
    objective.build(projector.out_channels)
    batches = [[level[part] for level in levels(seed)] for part in (slice(5), slice(5, 12))]
    if objective.needs_setup:
        with torch.no_grad():
            objective.setup(projector(batch) for batch in batches)
    if objective.one_pass:
        for batch in batches:
            objective.observe(batch)
        objective.finish(projector)
        return objective, projector
    parameters = [*projector.parameters(), *objective.parameters()]
    optimizer = objective.configure_optimizer(parameters)
    for epoch in range(2):
        objective.start_epoch(epoch)
        for batch in batches:
            optimizer.zero_grad()
            objective.loss(projector(batch)).backward()
            optimizer.step()
    return objective, projector


def scores(objective: Objective, projector: Projector) -> torch.Tensor:
    with torch.no_grad():
        return objective(projector(levels(1, images=3)))


def test_all_are_exported_and_tested_here() -> None:
    exported = {getattr(objectives, name) for name in objectives.__all__} - {Objective}
    assert exported == {*KINDS, Mixture, Subspace}


@every
def test_it_scores_every_position(objective: Objective) -> None:
    found = scores(*fitted(objective))
    assert found.shape == (3, 6, 6)
    assert found.isfinite().all()


@every
def test_its_specification_makes_it_again(objective: Objective) -> None:
    made = made_of(spec_of(objective))
    assert type(made) is type(objective)
    assert spec_of(made) == spec_of(objective)
    assert torch.equal(scores(*fitted(made)), scores(*fitted(objective)))


@every
@pytest.mark.parametrize("built", [True, False])
def test_specification_and_state_hold_what_was_learned(objective: Objective, built: bool) -> None:
    trained, projector = fitted(objective)
    again = made_of(spec_of(trained))
    if built:  # as a detector does, before the projector's weights are loaded
        again.build(sum(CHANNELS))
    again.load_state_dict(trained.state_dict())
    assert torch.equal(scores(again, projector), scores(trained, projector))
    again.build(sum(CHANNELS))
    assert torch.equal(scores(again, projector), scores(trained, projector))


@every
def test_a_copy_scores_alike(objective: Objective) -> None:
    trained, projector = fitted(objective)
    copied = copy.deepcopy(trained)
    assert spec_of(copied) == spec_of(trained)
    assert torch.equal(scores(copied, projector), scores(trained, projector))


@every
def test_what_is_not_fitted_says_so(objective: Objective) -> None:
    unfitted = made_of(spec_of(objective))
    if unfitted.learned and unfitted.arguments.get("channels") is None:
        with pytest.raises(RuntimeError, match="is not fitted: its [a-z]+ is empty"):
            unfitted(join(levels(0)))


@every
def test_it_has_one_way_to_learn(objective: Objective) -> None:
    if isinstance(objective, CFA):  # whose bank is enough without terms of a loss
        return
    if not objective.one_pass:
        with pytest.raises(TypeError, match="learns by gradient"):
            objective.observe(levels(0))
    elif not isinstance(objective, Norm):  # whose loss has a value, solved or not
        with pytest.raises(TypeError, match="learns in one pass"):
            objective.loss(join(levels(0)))


@pytest.mark.parametrize("kind", [CFA, DeepSVDD, KDE, KNN, OCSVM, PaDiM, Subspace])
def test_nothing_is_learned_from_nothing(kind: type[Objective]) -> None:
    objective = kind()
    projector = objective.default_projector([4])
    with pytest.raises(InputError, match="training set has no images") as error:
        objective.setup([]) if objective.needs_setup else objective.finish(projector)
    assert error.value.part == "dataset"


@pytest.mark.parametrize("kind", [Norm, PaDiM])
def test_it_is_built_for_one_number_of_channels(kind: type[Objective]) -> None:
    objective = kind()
    objective.build(4)
    objective.build(4)
    with pytest.raises(ValueError, match="^channels must be 4, for which it has been built, got 5"):
        objective.build(5)
    with pytest.raises(ValueError, match="^channels must be an integer and >= 1"):
        kind().build(0)


def test_mean_feature_is_that_of_all_positions() -> None:
    maps = torch.rand(5, 3, 2, 4)
    expected = maps.double().mean(dim=(0, 2, 3))
    torch.testing.assert_close(mean_feature(maps.split(2)), expected)


def test_states_of_earlier_versions_load() -> None:
    """Their objectives were built with the levels, so that unfitted buffers had a size."""
    norm = Norm(time="auto")
    norm.build(4)
    state = {
        "target": torch.zeros(5),
        "radius": torch.tensor(0.1),
        "moments.even.total": torch.eye(5, dtype=torch.float64),
        "moments.odd.total": torch.zeros(5, 5, dtype=torch.float64),
    }
    norm.load_state_dict(state)
    assert torch.equal(norm.moments.even.total, state["moments.even.total"])
    norm.observe(levels(0))
    assert norm.moments.even.total.shape == (5, 5)
    svdd = DeepSVDD()
    svdd.load_state_dict({"centre": torch.zeros(4), "radius": torch.tensor(0.0)})
    assert svdd(torch.ones(1, 4, 1, 1)).item() == 4


def test_the_import_needs_neither_hydra_nor_a_later_room() -> None:
    later = "postprocessing|metrics|engine|detector|reporting|inference|deploy|config"
    elsewhere = f"hydra|omegaconf|lightning|kornia|occ_lab[.]({later}|backbones|data)"
    code = f"""
import re, sys
import occ_lab.objectives
found = [name for name in sys.modules if re.match("({elsewhere})([.]|$)", name)]
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True)
