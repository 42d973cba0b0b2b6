"""The benchmark of pixel metrics on a few small maps."""

from __future__ import annotations

import pytest

from benchmarks.pixel_measures import measured
from occ_lab.metrics import pixel_store
from occ_lab.reporting.record import METRICS


def test_it_measures_every_pixel_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_store, "EXACT_BYTES", 2**10)
    counted = measured(40, 32, exact=False)
    exact = measured(40, 32, exact=True)
    names = {metric for metric in METRICS if metric.startswith("pixel_")}
    assert set(exact) == names | {"seconds", "before_mb", "peak_mb"}
    assert {name: exact[name] for name in names} != {name: counted[name] for name in names}
    assert {name: exact[name] for name in names} == pytest.approx(
        {name: counted[name] for name in names}, abs=1e-3
    )
