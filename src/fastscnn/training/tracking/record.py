"""Record: the callback that sends the log of a training to an experiment tracker, whose errors never end the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from fastscnn.base.errors import FastSCNNError
from fastscnn.evaluation.report import training
from fastscnn.training.callbacks import Line, Status


class Tracker(Protocol):
    """An experiment tracker, which has one run for each folder of a training.

    Attributes:
        name: as in --track.
    """

    name: str

    def open(self) -> int:
        """Start or continue the run, also after an error; return the step of the last line that it has, -1 for none."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add the values of a validation, group/name -> value, for example iou/Road. All or none are added."""

    def close(self, status: Status) -> None:
        """End the run, so that it can be continued."""


class Record:
    """Sends each line of the log to a tracker once, those included that it missed.

    Args:
        tracker: gets the lines.
        say: gets one message if the tracker fails.
    """

    def __init__(self, tracker: Tracker, say: Callable[[str], None] | None) -> None:
        self._tracker, self._say = tracker, say
        self._log: Sequence[Line] = ()
        self._last: int | None = None  # step of the last line that the tracker has; None: ask it
        self._warned = False

    def on_begin(self, log: Sequence[Line]) -> None:
        """Open the run and send the earlier lines.

        Raises:
            FastSCNNError: the tracker cannot record a training that has no validations yet. Later, training matters more.
        """
        self._log = log
        try:
            self._send()
        except Exception as error:
            if not log:
                raise FastSCNNError(f"{self._tracker.name}: cannot start a record ({_reason(error)}); check its settings, or "
                                    f"train without --track {self._tracker.name}.") from error
            self._warn(error)

    def on_validation(self, log: Sequence[Line]) -> None:
        """Send what the tracker lacks."""
        self._log = log
        try:
            self._send()
        except Exception as error:
            self._warn(error)

    def on_end(self, status: Status) -> None:
        """Send what the tracker lacks, and end the run."""
        try:
            self._send()
            self._tracker.close(status)
        except Exception as error:
            self._warn(error)

    def _send(self) -> None:
        last, self._last = self._last, None  # after an error it is unknown whether the tracker has the line
        if last is None:
            last = self._tracker.open()
        for line in self._log:
            if line["step"] > last:
                self._tracker.write(line["step"], _values(line))
                last = line["step"]
        self._last = last

    def _warn(self, error: Exception) -> None:
        if self._say and not self._warned:
            self._say(f"{self._tracker.name}: failed ({_reason(error)}). The training continues. What is missing there is sent "
                      "after the next validation that can, or with --resume.")
        self._warned = True


def _values(line: Line) -> dict[str, float]:
    return {f"{group}/{name}": value for group, curves in training.series([line]).items()
            for name, [(_, value)] in curves.items()}


def _reason(error: Exception) -> str:
    """Return the first line of an error, without a full stop."""
    text = str(error).strip().partition("\n")[0].rstrip(". ")
    return text[:200] or type(error).__name__
