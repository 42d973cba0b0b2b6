"""The final table of both stages."""

from __future__ import annotations

from rich.console import Console

from occ_lab.reporting.tables.two_stage import stages_table


def test_a_row_is_the_mean_over_tasks() -> None:
    spent = {"features": 1.0, "fit": 0.5, "test": 0.25}
    runs = {
        "kde_pooled": {
            "dot": {"image_auroc": 0.8, "seconds": spent},
            "ring": {"image_auroc": 0.9, "seconds": spent},
        },
        "knn_head": {"dot": {"image_auroc": 0.5, "pixel_auroc": 0.25, "seconds": spent}},
    }
    console = Console(width=120)
    with console.capture() as captured:
        published = {"image_auroc": 0.913, "density": "kde_pooled"}
        console.print(stages_table("both stages", runs, published))
    lines = captured.get().splitlines()
    assert lines[0].strip() == "both stages"
    (first,) = (line.split() for line in lines if "kde_pooled" in line)
    (second,) = (line.split() for line in lines if "knn_head" in line)
    assert first == ["kde_pooled", "85.0", "91.3", "–", "3.5"]
    assert second == ["knn_head", "50.0", "–", "25.0", "1.8"]
    assert not any("AP" in line for line in lines), "a metric that none has"
