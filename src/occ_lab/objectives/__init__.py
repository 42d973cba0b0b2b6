"""One-class objectives, one file for each method."""

from occ_lab.objectives.base import Objective
from occ_lab.objectives.cfa import CFA
from occ_lab.objectives.deep_svdd import DeepSVDD
from occ_lab.objectives.gaussian import Gaussian
from occ_lab.objectives.kde import KDE
from occ_lab.objectives.knn import KNN
from occ_lab.objectives.mixture import Mixture
from occ_lab.objectives.norm.objective import Norm
from occ_lab.objectives.ocsvm import OCSVM
from occ_lab.objectives.padim import PaDiM
from occ_lab.objectives.rotation_score import RotationScore
from occ_lab.objectives.subspace import Subspace

__all__ = [
    "CFA",
    "KDE",
    "KNN",
    "OCSVM",
    "DeepSVDD",
    "Gaussian",
    "Mixture",
    "Norm",
    "Objective",
    "PaDiM",
    "RotationScore",
    "Subspace",
]
