"""A stream of images: each image is scored and judged, then the detector is updated with it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from occ_lab.backbones.base import FrozenBackbone
from occ_lab.data.any_image import AnyImage, as_rgb
from occ_lab.data.batches import Batch
from occ_lab.data.tiled_images import tile_batches
from occ_lab.data.tiling import Tiles
from occ_lab.data.transforms import Seen, describe_frame
from occ_lab.data.value_range import Range
from occ_lab.detector import Detector
from occ_lab.engine.first_image import frame_for
from occ_lab.engine.online import Online, why_frozen
from occ_lab.engine.reference import Reference
from occ_lab.engine.stream_plan import StreamPlan, check_rate
from occ_lab.engine.stream_state import StreamState, read_state, write_state
from occ_lab.engine.verdict import Costs, Decision, Verdict
from occ_lab.inference.predictor import load
from occ_lab.metrics.calibration import RATE, Calibration
from occ_lab.utils.errors import InputError, check_number

SIDE = 256  # pixels; the default for the longer side of images
STREAMS = "streams"  # the folder of a run directory
MOMENTS = "moments.safetensors"  # in the folder of a task: the sums a closed form was solved from


class Stream:
    """Scores and judges images one by one; the detector learns from the accepted ones.

    A detector learns if its objective is the norm-space objective in closed form and the sums that
    it was solved from are available: it is new, it was fitted in this program, or a state is given.
    Any other detector scores and judges images without learning.

    Args:
        detector: scores the images; by default a new one that learns from the first image on.
        plan: how it judges and learns.
        calibration: the scores that p-values refer to; None uses those of the first images.
        side: the longer side of images in pixels, for a detector without preprocessing. Whole
            images are used then, in the shape of the first one.
        range: the range of values for such a detector, see `as_rgb`; None takes that of the first
            image.

    Attributes:
        online: updates the detector; None if it does not learn.
        reference: computes the p-values.
        costs: the time of each step in this process.
        re_solves: the number of times the projector was solved for.

    Raises:
        InputError: a state was learned with other settings, the detector cannot learn from it, or
            there can never be enough scores for a decision.

    Example:
        >>> import numpy as np
        >>> from occ_lab.backbones import TimmBackbone
        >>> stream = Stream(Detector(TimmBackbone("resnet10t", weights="random")), side=64)
        >>> images = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
        >>> verdicts = [stream.push(image) for image in images]
        >>> verdicts[0].score, verdicts[2].map.shape, verdicts[2].learned
        (None, torch.Size([48, 64]), True)
        >>> print(verdicts[2].decision)  # 99 scores are needed for a rate of 1 %
        None
    """

    def __init__(
        self,
        detector: Detector | None = None,
        plan: StreamPlan | None = None,
        calibration: Calibration | None = None,
        side: int = SIDE,
        range: Range | None = None,
    ) -> None:
        check_number("side", side, at_least=1, integer=True)
        self.plan = plan or StreamPlan()
        self.detector = (detector or Detector()).eval()
        self.side = side
        self.range = range
        self.overkill = RATE if self.plan.overkill is None else self.plan.overkill
        self.refuse = self.overkill if self.plan.refuse is None else self.plan.refuse
        check_rate(self.overkill, self.plan.window, calibration)
        self.costs = Costs()
        self.re_solves = 0
        self.online: Online | None = None
        if self.plan.learn and (self.plan.states or not why_frozen(self.detector)):
            self.online = Online(self.detector, self.plan.half_life, self.plan.refresh)
        learns = self.online is not None
        self.reference = Reference(self.plan.window, self.overkill, calibration, learns)
        if self.plan.states:
            self.start_from([Path(path).expanduser() for path in self.plan.states])

    @classmethod
    def load(
        cls,
        run: str | Path,
        task: str | None = None,
        device: str | torch.device = "cpu",
        plan: StreamPlan | None = None,
        trust: Sequence[str] = (),
    ) -> Stream:
        """Start a stream with the detector, the calibration and the rate of a run.

        It learns if the run directory contains the sums that the detector was solved from: either
        ``moments=true`` was set in training, or it is the run directory of a stream.

        Args:
            run: see `occ_lab.load`, also for ``task``, ``device`` and ``trust``.
            task: one of its tasks.
            device: the device for the detector.
            plan: how it judges and learns.
            trust: packages of your own whose classes the run may name.

        Raises:
            InputError: as in `occ_lab.load` and `Stream`.

        Example:
            >>> import occ_lab
            >>> stream = occ_lab.Stream.load("outputs/parts")  # doctest: +SKIP
            >>> stream.push("part1.png").decision  # doctest: +SKIP
            'accept'
        """
        plan = plan or StreamPlan()
        predictor = load(run, task, device, trust)
        if plan.learn and not plan.states:
            directory = Path(run).expanduser()
            kept = [
                directory / "tasks" / predictor.task / MOMENTS,
                directory / STREAMS / f"{predictor.task}.safetensors",
            ]
            plan = replace(plan, states=[path for path in kept if path.is_file()][:1])
        if plan.overkill is None:
            plan = replace(plan, overkill=predictor.overkill)
        return cls(predictor.detector, plan, predictor.calibration)

    def push(self, image: AnyImage, maps: bool = True) -> Verdict:
        """Score and judge an image, then update the detector with it.

        Args:
            image: a path, a PIL image, an array or a tensor, see `Detector.score`.
            maps: whether to return the anomaly map.

        Raises:
            OSError: a file cannot be read.
            ValueError: an array or tensor is not an image, or its score is not finite.
        """
        seen = self.seen(image)
        verdict, heat = self.take(seen)
        if heat is None or not maps:
            return verdict
        return replace(verdict, map=self.detector.full_map(heat, seen.size))

    def seen(self, image: AnyImage) -> Seen:
        """Read and preprocess an image; raises the same errors as `push`."""
        if self.detector.preprocessing is None:
            frame = frame_for(image, self.side, self.detector.backbone.multiple)
            self.detector.see(replace(frame, range=self.range or frame.range))
        known = self.detector.frame
        pixels = as_rgb(image, known.range)
        return Seen(known(pixels), (pixels.shape[0], pixels.shape[1]))

    @torch.no_grad()
    def take(self, seen: Seen) -> tuple[Verdict, Tensor | None]:
        """As `push`, for a result of `seen`.

        Returns:
            A verdict without a map, and the map ``[h, w]`` of the preprocessed image, if any.

        Raises:
            ValueError: the score is not finite.
        """
        detector = self.detector
        batches = partial(self.batches, seen)
        if not isinstance(detector.frame, Tiles):
            # The levels of all tiles would not fit into memory; learning computes them again.
            kept = list(batches())
            batches = partial(iter, kept)
        self.solve()
        if self.online is not None and not self.online.weight:
            verdict, heat = Verdict(None, None, None, True), None
        else:
            with self.costs.of("score"):
                maps, scores = detector.scores_of(batches(), seen.size)
                heat = None if maps is None else maps[0].float().cpu()
            verdict = self.judged(float(scores), heat)
        if verdict.learned and self.online is not None:
            with self.costs.of("update"):
                self.online.learn_parts(self._parts(batches()))
        return verdict, heat

    def features(self, seen: Seen) -> Iterator[tuple[list[Tensor], Tensor | None]]:
        """Levels of an image or of its tiles, and the positions that belong to the image."""
        return self._parts(self.batches(seen))

    def _parts(self, batches: Iterable[Batch]) -> Iterator[tuple[list[Tensor], Tensor | None]]:
        """The levels of batches, and the positions that belong to their images."""
        for each in batches:
            yield each["levels"], self.detector.valid(each, each["levels"][0])

    def batches(self, seen: Seen) -> Iterator[Batch]:
        """Levels of the image or of its tiles, a few at a time, and the part that is the image."""
        detector, frame = self.detector, self.detector.frame
        if isinstance(frame, Tiles):
            pixels = tile_batches(seen.pixels, frame)
        else:
            image = torch.tensor(seen.pixels).permute(2, 0, 1)[None].float() / 255
            pixels = iter([{"image": image, "box": torch.tensor([frame.box(*seen.size)])}])
        for batch in pixels:
            moved = detector.transfer_batch_to_device(batch, detector.device, 0)
            with self.costs.of("backbone"):
                levels = detector.levels(moved)
            yield {"levels": levels, "box": moved.get("box")}

    def judged(self, score: float, heat: Tensor | None) -> Verdict:
        """The verdict on a score; the score also counts for later verdicts.

        Raises:
            ValueError: the score is not finite.
        """
        if not math.isfinite(score):
            raise ValueError(f"the score is not finite ({score}), so that there is no verdict")
        p_value = self.reference.p_value(score)
        decision: Decision | None = None
        if self.reference.decided:
            decision = "reject" if p_value <= self.overkill else "accept"
        peak = score if heat is None else float(heat.max())
        self.reference.add(score, peak, accepted=decision != "reject")
        learned = self.online is not None and p_value > self.refuse
        return Verdict(score, p_value, decision, learned)

    def solve(self, always: bool = False) -> None:
        """Solve for the projector again if it is due, or (``always``) if anything is new."""
        if self.online is not None and (self.online.due or (always and self.online.fresh)):
            with self.costs.of("re-solve"):
                self.online.solve()
            self.re_solves += 1

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that must be equal in a stream that continues from a state of this one."""
        detector, frame = self.detector, self.detector.preprocessing
        backbone = detector.backbone
        found = {} if frame is None else describe_frame(frame)
        if self.online is None or not isinstance(backbone, FrozenBackbone):
            return {"backbone": backbone.name, **found}
        objective = self.online.objective
        return {
            "backbone": backbone.identity,
            **found,
            "normalize": objective.normalize,
            "norm": objective.norm,
            "p": objective.p,
            "time": "auto" if objective.flow_time else objective.time,
            # States saved before cells were introduced have neither key, which reads as None.
            "cell": objective.cell,
            "bias": None if objective.bias == "flow" else objective.bias,
        }

    def state(
        self, position: int = 0, rows: int = 0, failed: Mapping[str, str] | None = None
    ) -> StreamState:
        """Everything that `restore` needs; the arguments are those of `StreamState`."""
        return StreamState(
            None if self.online is None else self.online.state(),
            torch.tensor(self.reference.scores, dtype=torch.float64),
            torch.tensor(self.reference.peaks, dtype=torch.float64),
            torch.tensor(list(self.reference.latest), dtype=torch.float64),
            self.reference.fixed,
            position,
            rows,
            dict(failed or {}),
            self.settings,
            self.re_solves,
        )

    def save(self, path: str | Path) -> None:
        """Write the state to a file that another stream can start from (`StreamPlan.states`).

        Example:
            >>> stream = Stream(plan=StreamPlan(states=["line1.safetensors"]))  # doctest: +SKIP
            >>> stream.save("line1.safetensors")  # doctest: +SKIP
        """
        write_state(Path(path).expanduser(), self.state())

    def restore(self, state: StreamState) -> None:
        """Continue from a state; the results are bit-identical to an uninterrupted stream.

        Raises:
            InputError: the state belongs to a detector that learns and this one does not, or the
                other way round.
        """
        if (state.learned is None) != (self.online is None):
            raise InputError(
                "state: one of the two streams learns and the other does not; use the same settings"
            )
        if self.detector.preprocessing is None and state.frame is not None:
            self.detector.see(state.frame)
        if self.online is not None and state.learned is not None:
            self.online.forget()
            self.online.restore(state.learned)
        self.re_solves = state.re_solves
        self.reference.restore(
            state.scores.tolist(), state.peaks.tolist(), state.fixed, state.latest.tolist()
        )

    def start_from(self, paths: Sequence[Path]) -> None:
        """Start from what an earlier stream has learned, or from several streams, merged.

        Their scores are taken over unless there is a calibration.

        Raises:
            InputError: a file does not contain a state, or the state was learned with other
                settings.
        """
        for path in paths:
            frame = read_state(path, {}).frame
            if self.detector.preprocessing is None and frame is not None:
                self.detector.see(frame)
        states = [read_state(path, self.settings) for path in paths]
        learned = [state.learned for state in states if state.learned is not None]
        if self.online is not None and learned:
            self.online.forget()
            if len(learned) == 1:
                self.online.restore(learned[0])
            else:
                self.online.merge(learned)
        if not self.reference.fixed:
            parts = ([state.scores, state.peaks, state.latest] for state in states)
            scores, peaks, latest = (
                torch.cat(values).tolist() for values in zip(*parts, strict=True)
            )
            fixed = any(state.fixed for state in states)
            self.reference.restore(scores, peaks, fixed, latest)


def write_moments(path: Path, detector: Detector) -> None:
    """Write the sums that a closed form was solved from, so that a stream can start from them.

    Raises:
        InputError: the detector has another objective.
    """
    stream = Stream(detector)
    if stream.online is None:
        raise InputError(f"moments: {why_frozen(detector)}", part="objective")
    stream.save(path)
