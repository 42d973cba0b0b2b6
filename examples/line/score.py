"""Scores images with a detector that ``occ-lab export`` has written.

Use: python score.py MODEL.onnx IMAGE...
"""

from __future__ import annotations

import math
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(model: str, *images: str) -> None:
    """Print path, score, threshold and decision of each image."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    threshold = float(facts.get("threshold", math.inf))  # there is one if the run is calibrated
    for path in images:
        with Image.open(path) as image:
            pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        (score,) = session.run(["score"], {"image": pixels[None]})  # uint8 [1, height, width, 3]
        decision = "anomalous" if score[0] > threshold else "normal"
        print(path, f"{score[0]:.7g}", f"{threshold:.7g}", decision, sep="\t")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("use: python score.py MODEL.onnx IMAGE...")
    main(*sys.argv[1:])
