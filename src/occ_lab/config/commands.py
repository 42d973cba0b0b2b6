"""The commands of ``occ-lab``: what each does, examples of it, and the options that people change.

A command joins by an entry here and a module of its name, which ``occ-lab NAME`` runs like
``python -m occ_lab.NAME``. Nothing slow is imported, so that lists and help come at once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        summary: what it does, in one line of the list of commands.
        examples: arguments, and what they are for; by task, the user's own images first.
        about: the first paragraph of its ``--help``; empty where a parser has it.
        often: the keys that people change; the first ten that there are stand in ``--help``. It is
            empty for a command without a configuration.
    """

    summary: str
    examples: tuple[tuple[str, str], ...]
    about: str = ""
    often: tuple[str, ...] = ()

    @property
    def configured(self) -> bool:
        """Whether it has a configuration, which is composed of the YAML files in ``conf``."""
        return bool(self.often)


COMMANDS = {
    "train": Command(
        "train and test a detector",
        (
            ("dataset=folder dataset.normal=good/", "your own parts"),
            (
                "dataset=folder dataset.normal=good/ dataset.abnormal=bad/",
                "and tested on defects",
            ),
            ("", "embedded images, offline"),
            ("dataset=mvtec dataset.root=DIR loss=padim", "a benchmark and a method"),
            ("-m dataset=mvtec dataset.category=bottle seed=0,1,2", "a sweep of three runs"),
        ),
        about=(
            "Learn what normal images look like, from normal images alone; then find what does "
            "not. Writes a run directory: metrics, scores, heatmaps and the detector."
        ),
        often=(
            "dataset.abnormal",
            "dataset.root",
            "dataset.category",
            "dataset.crop",
            "dataset.tile",
            "calibration.overkill",
            "maps",
            "seed",
            "resume",
            "trainer.accelerator",
            "hydra.run.dir",
        ),
    ),
    "compare": Command(
        "run several methods on the same images and print one table",
        (
            ("dataset=folder dataset.normal=good/ dataset.abnormal=bad/", "your parts"),
            ("", "embedded images"),
            ("dataset=mvtec dataset.root=DIR dataset.category=bottle", "a benchmark"),
            ("methods=[norm,padim,cfa]", "these methods"),
            ('\'methods=[norm,"norm loss.cell=2","knn loss.bank=1000"]\'', "with settings"),
        ),
        about=(
            "Which method? Several over the same features, each an ordinary run, and one table "
            "of accuracy with confidence intervals, and of cost. Features are computed once."
        ),
        often=(
            "methods",
            "dataset.root",
            "dataset.category",
            "dataset.crop",
            "dataset.tile",
            "calibration.overkill",
            "maps",
            "seed",
            "resume",
            "trainer.accelerator",
            "hydra.run.dir",
        ),
    ),
    "predict": Command(
        "score new images with a trained detector",
        (
            ("run=outputs/folder/norm/DATE input=parts/", "a folder of your own parts"),
            ("run=DIR input='line1/*.png' heatmaps=true", "a pattern, with pictures"),
            ("run=DIR input=parts/ overkill=0.05", "reject 5 % of normal images"),
            ("run=outputs/mvtec/norm/DATE task=bottle input=DIR", "a benchmark's category"),
            ("--config-dir MINE run=DIR input=parts/ trust=[mine]", "with classes of your own"),
        ),
        about=(
            "Score new images with a trained detector. Writes predictions.csv: path, score, and"
            " where the run is calibrated, p-value and decision (accept or reject). A file that"
            " cannot be read is named, the others are scored, and the exit code is 1."
        ),
        often=(
            "run",
            "task",
            "input",
            "overkill",
            "heatmaps",
            "masks",
            "sort",
            "batch_size",
            "device",
            "hydra.run.dir",
        ),
    ),
    "calibrate": Command(
        "set the threshold of a trained detector from normal images",
        (
            ("run=outputs/folder/norm/DATE input=lot2/", "a new lot of your own parts"),
            ("run=DIR input='lot2/*.png'", "files by a pattern"),
            ("run=DIR input=lot2/ overkill=0.05", "accept 5 % false alarms"),
            ("run=outputs/mvtec/norm/DATE task=bottle input=DIR", "a benchmark's category"),
            ("run=DIR input=lot2/ device=cuda", "on a GPU"),
        ),
        about=(
            "A new threshold for a trained detector, from normal images such as those of a new "
            "lot. The model stays as it is, and the earlier threshold is kept. A rate of 1 % "
            "needs 99 images."
        ),
        often=("run", "task", "input", "overkill", "batch_size", "workers", "device", "trust"),
    ),
    "correct": Command(
        "learn false alarms, and forget defects that were learned",
        (
            ("run=model verdicts=verdicts.csv", "verdicts of the gallery"),
            ("run=model verdicts=verdicts.csv out=model2", "name the new run directory"),
            ("run=model verdicts=verdicts.csv calibration=lot2/", "threshold of another lot"),
            ("run=outputs/mvtec/norm/DATE task=bottle verdicts=FILE", "a task of several"),
            ("run=model verdicts=verdicts.csv device=cuda", "on a GPU"),
        ),
        about=(
            "Learn the images that are marked as false alarms, forget those that were learned "
            "although they are anomalous, and calibrate again. Writes a new run directory beside "
            "the old one. It needs the norm objective in closed form, whose moments were kept."
        ),
        often=("run", "verdicts", "task", "calibration", "out", "device", "trust", "hydra.run.dir"),
    ),
    "stream": Command(
        "score each incoming image, then update the detector with it",
        (
            (
                "input=line1/ watch=true run=outputs/folder/norm/DATE",
                "follow a folder of your parts",
            ),
            ("input=line1/ half_life=500 overkill=0.02", "a new detector that forgets"),
            ("input=today/ state=DIR/streams/input.safetensors", "go on from a state"),
            ("resume=true hydra.run.dir=DIR input=line1/", "after a stop, the same folder"),
            ("dataset=mvtec dataset.category=bottle", "a benchmark, image by image"),
        ),
        about=(
            "Score each incoming image, then update the detector with it. Writes "
            "streams/NAME.csv, the state from which a stream can go on, and a run directory for"
            " predict and export."
        ),
        often=(
            "input",
            "watch",
            "run",
            "state",
            "overkill",
            "refuse",
            "half_life",
            "learn",
            "heatmaps",
            "hydra.run.dir",
        ),
    ),
    "serve": Command(
        "score images that are sent, and those of a folder, live",
        (
            ("run=outputs/folder/norm/DATE input=line1/", "the folder that your camera fills"),
            ("run=DIR", "images that are sent alone"),
            ("run=DIR keep=true", "these are kept and shown on the page"),
            ("run=DIR input=line1/ hydra.run.dir=DIR2", "go on in the same folder"),
            ("run=DIR host=0.0.0.0 port=80", "for other machines; set OCC_LAB_TOKEN"),
        ),
        about=(
            "Serve a detector on this machine: POST /score gives score, p-value, decision and map "
            "of an image; the images of a folder appear on a page, where wrong decisions are "
            "marked and saved. /health, /metrics (Prometheus) and /docs are there as well."
        ),
        often=(
            "run",
            "task",
            "input",
            "keep",
            "overkill",
            "host",
            "port",
            "rate",
            "device",
            "hydra.run.dir",
        ),
    ),
    "export": Command(
        "write a trained detector as one file for other runtimes",
        (
            ("run=outputs/folder/norm/DATE", "ONNX, takes images of any size"),
            ("run=DIR output=parts.onnx overkill=0.02", "another file and threshold"),
            ("run=DIR format=openvino input=tensor batch_size=8", "OpenVINO, eight images a call"),
            ("run=DIR format=torch_export", "for PyTorch without this package"),
            ("run=outputs/mvtec/norm/DATE task=bottle", "a benchmark's category"),
        ),
        about=(
            "Write a trained detector as one file that other runtimes score images with. It "
            "gives score and map; its metadata hold the threshold. The file is compared with "
            "the detector: if scores differ by more than 1e-3, no file is kept."
        ),
        often=("run", "task", "format", "input", "batch_size", "output", "overkill", "trust"),
    ),
    "report": Command(
        "one page and one table of all runs in some directories",
        (
            ("outputs", "all runs so far"),
            ("outputs/folder --out report", "those on your own parts, elsewhere"),
            ("outputs/sweeps/DATE", "the jobs of a sweep"),
            ("outputs --baseline padim", "every group against one"),
            ("outputs --overkill 0.01 0.02 --pictures 8", "other rates, more pictures"),
        ),
    ),
    "data": Command(
        "list benchmarks, download them, check images",
        (
            ("check folder dataset.normal=good/ dataset.abnormal=bad/", "your own images"),
            ("list", "benchmarks, which are here"),
            ("list --data /data", "look in another folder"),
            ("download cifar10", "download, or how to get it"),
            ("check mvtec dataset.root=/data/mvtec", "count, find damage"),
        ),
    ),
    "cache": Command(
        "list, check and clear the cached features",
        (
            ("list", "what is kept, and its size"),
            ("list --dir DIR", "of another folder"),
            ("check", "read every byte again"),
            ("clear", "remove everything, after a question"),
            ("clear --yes", "without a question"),
        ),
    ),
    "two-stage": Command(
        "learn a representation from scratch, then a density of it",
        (
            ("dataset=class_folder dataset.root=DIR", "your own classes"),
            ("", "embedded images, offline"),
            ("dataset=cifar10 representation=contrastive_da", "a benchmark, as published"),
            ("dataset=mnist density=kde", "one density"),
            ("dataset=cifar10 representation.fit.epochs=2048", "as long as the paper"),
        ),
        about=(
            "Learn a representation from normal images alone, without pretrained weights, then "
            "estimate its density and score by it."
        ),
        often=(
            "representation.fit.epochs",
            "representation.fit.batch_size",
            "density",
            "features",
            "dataset.root",
            "dataset.category",
            "seed",
            "resume",
            "trainer.accelerator",
            "hydra.run.dir",
        ),
    ),
    "norm-study": Command(
        "the norm objective at every norm, from one set of features",
        (
            ("dataset=folder dataset.normal=good/ dataset.abnormal=bad/", "your parts"),
            ("", "embedded images"),
            ("dataset=mvtec dataset.root=DIR dataset.category=bottle", "a benchmark"),
            ("'norms=[1,4,16]' 'times=[10]'", "three norms"),
            ("cell=null", "one projector"),
        ),
        about=(
            "The norm objective at every norm, in closed form, from one set of features: at "
            "which norm the AUROC falls, at which norm it is predicted to fall, and how length "
            "and angle change."
        ),
        often=(
            "norms",
            "times",
            "cell",
            "normalize",
            "dataset.root",
            "dataset.category",
            "seed",
            "accelerator",
            "cache.dir",
            "hydra.run.dir",
        ),
    ),
}


def module_of(name: str) -> str:
    """The module of a command, which is also the name of its configuration.

    Example:
        >>> module_of("two-stage")
        'two_stage'
    """
    return name.replace("-", "_")


def name_of(module: str) -> str:
    """The command of a module, as it is typed.

    Example:
        >>> name_of("two_stage")
        'two-stage'
    """
    return module.replace("_", "-")


def example_lines(name: str) -> list[str]:
    """The examples of a command, one a line: what is typed, and what for."""
    examples = [
        (f"occ-lab {name} {typed}".rstrip(), what) for typed, what in COMMANDS[name].examples
    ]
    width = max(len(typed) for typed, _ in examples)
    return [f"  {typed:<{width}}  {what}" for typed, what in examples]
