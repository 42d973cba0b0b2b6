"""Create a dashboard that compares runs on your W&B account: see ``--help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from occ_lab.utils.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Create the dashboard and print its address.

    Returns:
        The exit code: 1 if it cannot be created.
    """
    asked = command_line().parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    try:
        console.print(create(asked.entity, asked.project, asked.name))
    except InputError as error:
        console.print(str(error))
        return 1
    return 0


def command_line() -> argparse.ArgumentParser:
    """The parser."""
    parser = argparse.ArgumentParser(
        prog="python -m occ_lab.reporting.wandb_dashboard",
        description="Create the dashboard that compares runs in a W&B project of yours over the "
        "norm, the objective, the backbone and the dataset, with the tables of tasks and of "
        "predictions.",
    )
    parser.add_argument("--entity", required=True, help="your W&B user or team")
    parser.add_argument("--project", default="occ-lab", help="default: %(default)s")
    parser.add_argument("--name", default="OCC Lab", help="of the dashboard; default: %(default)s")
    return parser


def create(entity: str, project: str, name: str) -> str:
    """Save the dashboard on the account of ``wandb login`` and return its address.

    Raises:
        InputError: wandb-workspaces is not installed, or W&B cannot be reached or refuses.
    """
    try:
        workspace = dashboard(entity, project, name)
    except ImportError as error:
        raise InputError(
            "wandb-workspaces is not installed; pip install 'occ-lab[wandb]'"
        ) from error
    try:
        workspace.save()
    except Exception as error:  # the network, the login and the service can fail in many ways
        raise InputError(
            f"W&B did not accept the dashboard ({error}); check that this machine is online and "
            "that you have called wandb login"
        ) from error
    return str(workspace.url)


def dashboard(entity: str, project: str, name: str) -> Any:
    """The definition: a `wandb_workspaces.workspaces.Workspace`."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    image, pixel = wr.SummaryMetric("image_auroc"), wr.SummaryMetric("pixel_auroc")
    seconds = wr.SummaryMetric("seconds")
    norm, loss = wr.Config("loss.norm"), wr.Config("loss.name")
    axis = wr.ParallelCoordinatesPlotColumn
    backbone, dataset = wr.Config("backbone.name"), wr.Config("dataset.name")

    def bars(title: str, metric: Any, over: Any) -> Any:
        return wr.BarPlot(
            f"{title}, mean and deviation",
            metrics=[metric],
            groupby=over,
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        )

    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            ws.Section(
                "Which norm",
                panels=[
                    wr.ScatterPlot("image AUROC over the norm", x=norm, y=image, log_x=True),
                    wr.ScatterPlot("pixel AUROC over the norm", x=norm, y=pixel, log_x=True),
                ],
                is_open=True,
            ),
            ws.Section(
                "Which objective",
                panels=[
                    bars("image AUROC by objective", image, loss),
                    wr.ScatterPlot("AUROC against seconds", x=seconds, y=image, log_x=True),
                ],
                is_open=True,
            ),
            ws.Section(
                "Which backbone",
                panels=[
                    bars("image AUROC by backbone", image, backbone),
                    bars("pixel AUROC by backbone", pixel, backbone),
                    bars("seconds by backbone", seconds, backbone),
                ],
                is_open=True,
            ),
            ws.Section(
                "Which dataset",
                panels=[
                    bars("image AUROC by dataset", image, dataset),
                    bars("pixel AUROC by dataset", pixel, dataset),
                ],
                is_open=True,
            ),
            ws.Section(
                "All at once",
                panels=[
                    wr.ParallelCoordinatesPlot(
                        title="dataset, backbone, objective and norm to AUROC",
                        columns=[
                            axis(metric=dataset, display_name="dataset"),
                            axis(metric=backbone, display_name="backbone"),
                            axis(metric=loss, display_name="objective"),
                            axis(metric=norm, display_name="norm", log=True),
                            axis(metric=image, display_name="image AUROC"),
                        ],
                    )
                ],
                is_open=True,
            ),
            ws.Section(
                "Category by category",
                panels=[wr.WeavePanelSummaryTable(table_name="tasks")],
                is_open=True,
            ),
            ws.Section(
                "Image by image",
                panels=[wr.WeavePanelSummaryTable(table_name="predictions")],
                is_open=True,
            ),
        ],
        runset_settings=ws.RunsetSettings(groupby=[ws.Config("loss.name")]),
        auto_generate_panels=True,  # of every task: curves and heatmaps
    )


if __name__ == "__main__":
    sys.exit(main())
