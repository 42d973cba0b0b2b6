"""The export formats: how a file of each format is written and run."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch.export import ExportedProgram

from occ_lab.utils.errors import InputError

Run: TypeAlias = Callable[[np.ndarray], dict[str, np.ndarray]]
METADATA = "occ_lab.json"  # inside a .pt2 file


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        suffix: the suffix of the file.
        needs: the packages for writing, running and checking it.
        write: writes a program and metadata to a path.
        run: opens a file for computation with a number of threads.
        metadata: code that reads the metadata of a file, shown to the user.
    """

    suffix: str
    needs: tuple[str, ...]
    write: Callable[[ExportedProgram, dict[str, str], Path], None]
    run: Callable[[Path, int], Run]
    metadata: str

    @property
    def installed(self) -> bool:
        """Whether all required packages are installed."""
        return all(find_spec(name) for name in self.needs)


def required(name: str) -> Format:
    """The format with the given name.

    Raises:
        InputError: it does not exist, or a required package is not installed.
    """
    if name not in FORMATS:
        raise InputError(f"format: must be one of {', '.join(FORMATS)}, got {name!r}")
    form = FORMATS[name]
    if not form.installed:
        missing = ", ".join(each for each in form.needs if not find_spec(each))
        raise InputError(
            f"format: {name} needs {missing}, not installed; pip install 'occ-lab[{name}]'"
        )
    return form


def write_onnx(program: ExportedProgram, metadata: dict[str, str], path: Path) -> None:
    """Write a single file that includes the weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation warnings of its own dependencies
        exported = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=["image"],
            output_names=output_names(program),
        )
    assert exported is not None
    shape = exported.model.graph.inputs[0].shape
    assert shape is not None
    if not shape.is_static():  # its sizes are named after PyTorch's symbols
        shape[1], shape[2] = "height", "width"
    exported.model.metadata_props.update(metadata)
    exported.save(path, external_data=False)


def run_onnx(path: Path, threads: int) -> Run:
    """Open a file with ONNX Runtime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Idle threads that spin would take the processor from the programs timed in turn with it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda image: dict(zip(names, session.run(names, {"image": image}), strict=True))


def write_torch(program: ExportedProgram, metadata: dict[str, str], path: Path) -> None:
    """Write one file that `torch.export.load` reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about weights that are views of other weights
        torch.export.save(program, path, extra_files={METADATA: json.dumps(metadata)})


def run_torch(path: Path, threads: int) -> Run:
    """Open a file with PyTorch, which uses its globally set number of threads."""
    module = torch.export.load(path).module()

    @torch.inference_mode()
    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in module(torch.from_numpy(image)).items()}

    return run


def write_openvino(program: ExportedProgram, metadata: dict[str, str], path: Path) -> None:
    """Write the graph, and beside it a file ``.bin`` of the same name with the weights.

    The export goes through ONNX, because OpenVINO's reader of PyTorch programs gave wrong scores
    for some image sizes (2026.4).
    """
    import openvino

    through = path.with_suffix(".onnx")
    write_onnx(program, {}, through)
    model = openvino.Core().read_model(through)
    for name, value in metadata.items():
        model.set_rt_info(value, ["occ_lab", name])
    openvino.save_model(model, path, compress_to_fp16=False)
    through.unlink()


def run_openvino(path: Path, threads: int) -> Run:
    """Open a file with OpenVINO on the CPU, with float32 on every processor."""
    import openvino

    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.compile_model(path, "CPU", hints)
    names = [output.any_name for output in compiled.outputs]

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        found = compiled(image)
        return {name: np.array(found[name]) for name in names}

    return run


def output_names(program: ExportedProgram) -> list[str]:
    """The keys of the program's outputs, in order."""
    return list(program.call_spec.out_spec.context)


FORMATS = {
    "onnx": Format(
        ".onnx",
        ("onnx", "onnxscript", "onnxruntime"),
        write_onnx,
        run_onnx,
        "onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map",
    ),
    "torch_export": Format(
        ".pt2",
        (),
        write_torch,
        run_torch,
        f"torch.export.load(path, extra_files={{'{METADATA}': ''}})",
    ),
    "openvino": Format(
        ".xml",
        ("onnx", "onnxscript", "openvino"),
        write_openvino,
        run_openvino,
        "openvino.Core().read_model(path).get_rt_info(['occ_lab']).value",
    ),
}
