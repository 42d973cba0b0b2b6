"""From the configuration of ``occ_lab.serve`` to the service."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from occ_lab.config.composition import check_value
from occ_lab.config.predict import device_named, loaded
from occ_lab.reporting.gallery.gallery import PAGE
from occ_lab.serving.limits import Limits
from occ_lab.serving.server import check_installed, listening, server_of
from occ_lab.serving.service import Plan, Service
from occ_lab.utils.files import typed_path
from occ_lab.utils.signals import stop_on_signal


def perform_serve(cfg: DictConfig, directory: Path) -> None:
    """Serve the detector of ``cfg.run`` until Ctrl-C or SIGTERM.

    Args:
        cfg: the configuration of ``occ_lab.serve``.
        directory: where table, page, verdicts and kept images go.

    Raises:
        UserError: a value out of range; before any work.
        InputError: no such run, task or folder, or an address that cannot be used; likewise.
    """
    check_installed()
    check_value(cfg, "port", at_least=0, at_most=65535, integer=True)
    plan = plan_of(cfg)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    with listening(plan.limits.host, cfg.port) as listener, stop_on_signal() as stop:
        # The OpenMP of PyTorch lets its threads sleep between any two operations where two threads
        # have used it, which doubles the time of an image: the first one must have ended by then.
        with ThreadPoolExecutor(1) as loader:
            predictor = loader.submit(loaded, cfg, device_named(str(cfg.device))).result()
        service = Service(predictor, directory, plan)
        if not stop.is_set():
            server = server_of(service)
            address = address_of(plan.limits.host, listener.getsockname()[1])
            for line in introduction(service, str(cfg.run), address):
                console.print(line)
            server.run([listener])
        console.print(f"\nStopped; {service.counters.scored} images were scored.")
        for name, reason in service.failed.items():
            console.print(f"error: {name}: {reason}")


def introduction(service: Service, run: str, address: str) -> list[str]:
    """What is served, and where."""
    predictor, album = service.predictor, service.album
    lines = [f"detector:   {run}, task {predictor.task}, on {predictor.detector.device}"]
    if predictor.calibration is None:
        lines.append("threshold:  none, the run was not calibrated")
    if service.plan.folder is not None:
        lines.append(f"watching:   {service.plan.folder}")
    if album is not None:
        lines.append(f"page:       {address}/ (and {album.directory / PAGE})")
    lines.append(f"images:     POST {address}/score")
    lines.append(f"interface:  {address}/docs   Ctrl-C ends it")
    return lines


def plan_of(cfg: DictConfig) -> Plan:
    """How the service works.

    Raises:
        UserError: a value is out of range.
        InputError: there is no token where one is needed.
    """
    for key in ("batch_size", "waiting"):
        check_value(cfg, key, at_least=1, integer=True)
    check_value(cfg, "workers", at_least=0, integer=True)
    check_value(cfg, "megabytes", above=0)
    for key in ("rate", "settle", "patience"):
        check_value(cfg, key, at_least=0)
    token = "" if cfg.token is None else str(cfg.token)
    return Plan(
        Limits(str(cfg.host), token, cfg.megabytes, cfg.rate),
        None if cfg.input is None else typed_path(str(cfg.input)),
        bool(cfg.keep),
        cfg.batch_size,
        cfg.waiting,
        cfg.workers,
        cfg.settle,
        cfg.patience,
    )


def address_of(host: str, port: int) -> str:
    """The address of the service, for a browser.

    Example:
        >>> address_of("127.0.0.1", 8000), address_of("::1", 8000)
        ('http://127.0.0.1:8000', 'http://[::1]:8000')
    """
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
