"""What the service counts, in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from occ_lab.utils.extras import from_extra

DECISIONS = ("accept", "reject", "error", "undecided")


class Counters:
    """Counters, gauges and histograms of one service.

    Attributes:
        requests: answers by route and status.
        images: scored images by decision.
        scored: the number of scored images.
        unreadable: files of the watched folder that could not be read.
        waiting: images that wait to be scored.

    Raises:
        InputError: prometheus-client is not installed.

    Example:
        >>> counters = Counters()
        >>> counters.count("reject")
        >>> 'occ_lab_images_total{decision="reject"} 1.0' in counters.text().decode()
        True
    """

    def __init__(self) -> None:
        prometheus = from_extra("prometheus_client", "serve")
        self._registry = prometheus.CollectorRegistry()
        self._text = prometheus.generate_latest

        def counter(name: str, what: str, *labels: str) -> Any:
            return prometheus.Counter(f"occ_lab_{name}", what, labels, registry=self._registry)

        self.requests = counter("requests", "Answers by route and status.", "route", "status")
        self.images = counter("images", "Scored images by decision.", "decision")
        for decision in DECISIONS:  # a rate of something that never came is 0, not absent
            self.images.labels(decision)
        self.scored = 0
        self.unreadable = counter("unreadable", "Files of the folder that could not be read.")
        self.waiting = prometheus.Gauge(
            "occ_lab_waiting", "Images that wait to be scored.", registry=self._registry
        )
        self._batches = prometheus.Histogram(
            "occ_lab_batch_images",
            "Images in a batch.",
            buckets=[2**power for power in range(8)],
            registry=self._registry,
        )
        self._seconds = prometheus.Histogram(
            "occ_lab_batch_seconds", "Time to score a batch.", registry=self._registry
        )

    def count(self, decision: str) -> None:
        """Count a scored image; an empty decision is ``undecided``."""
        self.images.labels(decision or "undecided").inc()
        self.scored += 1

    @contextmanager
    def batch(self, images: int) -> Iterator[None]:
        """Time the block, in which a batch is scored."""
        self._batches.observe(images)
        with self._seconds.time():
            yield

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return bytes(self._text(self._registry))
