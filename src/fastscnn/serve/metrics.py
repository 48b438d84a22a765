"""What a service counts, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds


class Metrics:
    """Counters of one service, in a registry of its own.

    Args:
        waiting: returns the number of images that are segmented or wait.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter("fastscnn_requests", "Requests answered.", ("path", "status"), registry=self._registry)
        self._seconds = Histogram("fastscnn_request_seconds", "Time from the head of a request to the end of its answer.",
                                  ("path",), buckets=_BUCKETS, registry=self._registry)
        self._stages = Histogram("fastscnn_stage_seconds", "Time of each stage of a segmentation.", ("stage",),
                                 buckets=_BUCKETS, registry=self._registry)
        self._live = Histogram("fastscnn_live_latency_seconds", "Time from the arrival of a frame of the live stream to its "
                               "overlay.", buckets=_BUCKETS, registry=self._registry)
        Gauge("fastscnn_images", "Images that are segmented or wait.", registry=self._registry).set_function(waiting)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer. `path` is that of a route, since each value needs memory."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def segmented(self, stages: Mapping[str, float]) -> None:
        """Count the stages of a segmentation, in seconds."""
        for stage, seconds in stages.items():
            self._stages.labels(stage).observe(seconds)

    def live(self, seconds: float) -> None:
        """Count an overlay of the live stream, and the seconds since its frame arrived."""
        self._live.observe(seconds)

    def text(self) -> bytes:
        """Return all metrics."""
        return generate_latest(self._registry)
