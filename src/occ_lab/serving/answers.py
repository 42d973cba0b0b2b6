"""What the service takes and gives as JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Map(BaseModel):
    """An anomaly map as a picture of 8 bits."""

    png: str = Field(description="A grey PNG file as base64; 0 stands for low, 255 for high.")
    low: float = Field(description="The least value of the map.")
    high: float = Field(description="Its largest value.")
    shown: tuple[float, float, float, float] = Field(
        description="The part of the image that it covers: top, left, height, width, as fractions."
    )


class Answer(BaseModel):
    """What the detector says of an image."""

    score: float = Field(description="Larger is more anomalous.")
    p_value: float | None = Field(
        description="The fraction of normal images with such a score; null without calibration."
    )
    decision: Literal["accept", "reject"] | None = Field(description="Null without calibration.")
    threshold: float | None = Field(description="Scores above it are rejected.")
    task: str = Field(description="What the detector was trained on.")
    map: Map | None = Field(description="Null if none was asked for, or the detector has none.")


class Health(BaseModel):
    """That the service works, and with what."""

    status: Literal["ok"] = "ok"
    task: str
    version: str
    scored: int = Field(description="Images scored since the start.")


class Problem(BaseModel):
    """Why a request was not served."""

    detail: str


class Said(BaseModel):
    """A verdict on an image of the page; without one, it is removed."""

    path: str = Field(max_length=4096)
    verdict: Literal["false alarm", "missed", "good", "defect"] | None
    defect: str = Field(default="", max_length=200)
    score: float | None = None
    threshold: float | None = None
    decision: str = Field(default="", max_length=20)
    task: str = Field(default="", max_length=400)
