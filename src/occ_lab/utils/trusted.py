"""An exact list of the classes that may be instantiated from a run's files, whoever wrote them."""

from __future__ import annotations

TRUSTED = frozenset(
    {
        "occ_lab.backbones.encoder.Encoder",
        "occ_lab.backbones.learned.LearnedBackbone",
        "occ_lab.backbones.lenet.LeNet",
        "occ_lab.backbones.timm.TimmBackbone",
        "occ_lab.objectives.cfa.CFA",
        "occ_lab.objectives.deep_svdd.DeepSVDD",
        "occ_lab.objectives.gaussian.Gaussian",
        "occ_lab.objectives.kde.KDE",
        "occ_lab.objectives.knn.KNN",
        "occ_lab.objectives.mixture.Mixture",
        "occ_lab.objectives.norm.objective.Norm",
        "occ_lab.objectives.ocsvm.OCSVM",
        "occ_lab.objectives.padim.PaDiM",
        "occ_lab.objectives.rotation_score.RotationScore",
        "occ_lab.objectives.subspace.Subspace",
        "occ_lab.postprocessing.postprocess.PostProcess",
        "occ_lab.projectors.Conv1x1",
        "occ_lab.projectors.CoordConv1x1",
        "occ_lab.projectors.Identity",
        "occ_lab.projectors.LocalProjector",
        "torch.optim.adam.Adam",
        "torch.optim.adamw.AdamW",
        "torch.optim.sgd.SGD",
        "torch.optim.lr_scheduler.CosineAnnealingLR",
        "torch.optim.lr_scheduler.MultiStepLR",
        "torch.optim.lr_scheduler.StepLR",
    }
)

# Names that earlier versions have stored in their runs.
MOVED = {
    "occ_lab.features.backbone.Backbone": "occ_lab.backbones.timm.TimmBackbone",
    "occ_lab.features.learned.LearnedBackbone": "occ_lab.backbones.learned.LearnedBackbone",
    "occ_lab.features.lenet.LeNet": "occ_lab.backbones.lenet.LeNet",
    "occ_lab.models.cfa.CFA": "occ_lab.objectives.cfa.CFA",
    "occ_lab.models.coordconv.CoordConv1x1": "occ_lab.projectors.CoordConv1x1",
    "occ_lab.models.gaussian.Gaussian": "occ_lab.objectives.gaussian.Gaussian",
    "occ_lab.models.kde.KDE": "occ_lab.objectives.kde.KDE",
    "occ_lab.models.knn.KNN": "occ_lab.objectives.knn.KNN",
    "occ_lab.models.norm.Norm": "occ_lab.objectives.norm.objective.Norm",
    "occ_lab.models.ocsvm.OCSVM": "occ_lab.objectives.ocsvm.OCSVM",
    "occ_lab.models.padim.PaDiM": "occ_lab.objectives.padim.PaDiM",
    "occ_lab.models.projector.Conv1x1": "occ_lab.projectors.Conv1x1",
    "occ_lab.models.projector.Identity": "occ_lab.projectors.Identity",
    "occ_lab.models.rotation_score.RotationScore": (
        "occ_lab.objectives.rotation_score.RotationScore"
    ),
    "occ_lab.models.svdd.DeepSVDD": "occ_lab.objectives.deep_svdd.DeepSVDD",
    "occ_lab.scoring.postprocess.PostProcess": "occ_lab.postprocessing.postprocess.PostProcess",
}

# Defaults of arguments that earlier versions have not stored in their runs.
EARLIER = {
    "occ_lab.objectives.norm.objective.Norm": {
        "solver": "gradient",
        "time": "auto",
        "cell": None,
        "bias": "flow",
    },
}
