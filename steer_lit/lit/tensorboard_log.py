"""TensorBoard's events of a run that goes on in its folder."""

from __future__ import annotations

from collections.abc import Iterable

from lightning.pytorch.loggers import Logger, TensorBoardLogger


def hide_after(step: int, loggers: Iterable[Logger]) -> None:
    """Have TensorBoard leave out what an earlier part of the run wrote of later steps, which are taken again.

    That is what `SummaryWriter(purge_step=step + 1)` writes; but Lightning has opened the file before it restores the
    checkpoint that says which step it is.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            start = SessionLog(status=SessionLog.START)
            logger.experiment.file_writer.add_event(Event(step=step + 1, session_log=start))
