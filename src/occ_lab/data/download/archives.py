"""The archives that may be downloaded without a login or a form, with their checksums."""

from __future__ import annotations

from torchvision import datasets

from occ_lab.data.download.fetch import Archive


def archives(name: str) -> list[Archive]:
    """The archives of a benchmark; none if its terms or its host forbid a direct download.

    The checksums of MNIST, Fashion-MNIST and CIFAR come from torchvision, those of VisA and BTAD
    from anomalib.
    """
    if name in ("mnist", "fashion_mnist"):
        source = datasets.MNIST if name == "mnist" else datasets.FashionMNIST
        return [
            Archive(source.mirrors[0] + file, f"md5:{md5}", into=f"{source.__name__}/raw")
            for file, md5 in source.resources
        ]
    return FIXED.get(name, [])


FIXED = {
    "cifar10": [Archive(datasets.CIFAR10.url, f"md5:{datasets.CIFAR10.tgz_md5}")],
    "cifar100": [Archive(datasets.CIFAR100.url, f"md5:{datasets.CIFAR100.tgz_md5}")],
    "visa": [
        Archive(
            "https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
            "md5:ef908989b6dc701fc218f643c127a4de",
        )
    ],
    "btad": [
        Archive(
            "https://avires.dimi.uniud.it/papers/btad/btad.zip",
            "sha256:461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
        )
    ],
}
