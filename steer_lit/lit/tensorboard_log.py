"""TensorBoard's events of a run that is resumed in its folder."""

from __future__ import annotations

from collections.abc import Iterable

from lightning.pytorch.loggers import Logger, TensorBoardLogger


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
