"""Two real processes of a plain Trainer share the images of a data module."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests import warm
from tests.data.trees import mvtec_tree

SCRIPT = """
import json, sys
from pathlib import Path

import lightning as L
import torch
import occ_lab.data


class Watch(L.LightningModule):
    def __init__(self, one_pass):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.automatic_optimization = not one_pass
        self.seen = {"train": [], "val": [], "test": [], "predict": []}

    def training_step(self, batch, _):
        assert not batch["label"].any()
        self.seen["train"] += batch["index"].tolist()
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch, _):
        self.seen["val"] += batch["path"]

    def test_step(self, batch, _):
        self.seen["test"] += batch["index"].tolist()

    def predict_step(self, batch, _):
        self.seen["predict"] += batch["index"].tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer():
    return L.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, num_sanity_val_steps=0,
    )


if __name__ == "__main__":
    root = Path(sys.argv[1])
    data = occ_lab.data.MVTecAD(root, "bolt", resize=32, crop=32, batch_size=2, validation=0.25)
    module, job = Watch(one_pass=False), trainer()
    job.fit(module, datamodule=data)
    job.test(module, datamodule=data)
    job.predict(module, datamodule=data)
    seen = {**module.seen, "trained": [str(item) for item in data.split.train]}
    module.seen["predict"] = []
    job.predict(module, data.setup_dataloader())
    seen["setup"] = module.seen["predict"]
    module = Watch(one_pass=True)
    trainer().fit(module, datamodule=data)
    seen["one_pass"] = module.seen["train"]
    (root / f"rank{job.global_rank}.json").write_text(json.dumps(seen))
"""


def test_a_plain_trainer_with_two_processes(tmp_path: Path) -> None:
    mvtec_tree(tmp_path, train=9, good=3, bad=4, side=32)
    script = tmp_path / "job.py"
    script.write_text(SCRIPT, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for done in warm.run_in_two([str(script), str(tmp_path)], environment=environment):
        assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    for part in ("test", "predict"):
        assert sorted(first[part] + second[part]) == list(range(7)), "each image once"
    trained, validated = first["trained"], first["val"] + second["val"]
    assert trained == second["trained"]
    assert len(trained) == 7
    assert len(validated) == len(set(validated)) == 2
    assert not set(validated) & set(trained)
    assert first["setup"] == second["setup"] == list(range(7))
    assert len(first["train"]) == len(second["train"]) == 4, "gradient steps need equal numbers"
    assert set(first["train"] + second["train"]) == set(range(7))
    assert sorted(first["one_pass"] + second["one_pass"]) == list(range(7)), "no image counts twice"
