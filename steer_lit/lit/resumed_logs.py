"""The loggers of a run that is resumed in its folder: they have every step, and TensorBoard shows none twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from steer_lit.lit.csv_log import CsvLog


def log_missing(step: int, metrics: Mapping[str, float], loggers: Iterable[Logger]) -> None:
    """Log the `metrics` of `step` where it is known to be missing: TensorBoard is asked, `CsvLog` replaces the row.

    Lightning logs a step after its callbacks have saved it: a kill between the two loses its row, a stop does not. Any
    other logger would show the step of each run that was stopped twice.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            lacks = step not in _steps(logger, next(iter(metrics)))
        else:
            lacks = isinstance(logger, CsvLog)
        if lacks:
            logger.log_metrics(dict(metrics), step)


def _steps(logger: TensorBoardLogger, name: str) -> set[int]:
    """Return the steps for which TensorBoard shows the metric."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    events = EventAccumulator(logger.log_dir, {SCALARS: 0}).Reload()
    return {event.step for event in events.Scalars(name)} if name in events.scalars.Keys() else set()


def hide_after(step: int, loggers: Iterable[Logger]) -> None:
    """Have TensorBoard leave out what an earlier part of the run wrote for steps after `step`, which are taken again.

    `SummaryWriter(purge_step=step + 1)` writes the same event, but Lightning opens the file before it restores the
    checkpoint, which holds the step.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            start = SessionLog(status=SessionLog.START)
            logger.experiment.file_writer.add_event(Event(step=step + 1, session_log=start))
