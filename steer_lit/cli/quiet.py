"""What a run says first, and what the libraries are not to say."""

from __future__ import annotations

import logging
import warnings

from steer_lit.ranks import first_rank


def say(line: str) -> None:
    """Print the line at once, and once for all ranks: loading the libraries takes seconds, on a cold disk many."""
    if first_rank():
        print(line, flush=True)


def quieten() -> None:
    """Leave the screen to the run: no banners of Lightning's, no bars for files that load in an instant."""
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging as transformers_logging

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    transformers_logging.disable_progress_bar()
    enable_progress_bars()  # the line above takes the hub's too, and a large model is fetched for minutes
    for library in (r"transformers\.", r"lightning\."):  # about each other's versions, not about the run
        warnings.filterwarnings("ignore", category=FutureWarning, module=library)
        warnings.filterwarnings("ignore", message=".*treespec.*", module=library)
    # Without held-out rows nothing is validated, as asked.
    warnings.filterwarnings("ignore", message=".*across ranks is zero.*", module=r"lightning\.")
    # PolicyModule has added up over ranks what it logs.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*", module=r"lightning\.")
