"""Image metrics against plain references."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from torchmetrics import Metric

from occ_lab.metrics import ImageAP, ImageAUROC, ImageF1Max
from tests.metrics.plain import CLOSE, measure, plain_ap, plain_auroc, plain_f1max, some_images


@pytest.mark.parametrize(
    ("metric", "plain"),
    [(ImageAUROC, plain_auroc), (ImageAP, plain_ap), (ImageF1Max, plain_f1max)],
)
@given(sample=some_images)
@settings(deadline=None)
def test_image_metrics_equal_plain_references(
    metric: type[Metric], plain: Callable[..., float], sample: tuple[np.ndarray, np.ndarray]
) -> None:
    scores, labels = sample
    assert measure(metric(), sample) == pytest.approx(plain(labels, scores), abs=CLOSE)
