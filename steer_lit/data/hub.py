"""Rows of a dataset on the Hugging Face hub, streamed: `hf://owner/name[/config][:split][@revision]`.

Without a revision, the newest one is looked up first and used throughout. Pictures that rows name by a path are not
fetched; they are looked up in `data.source.folder` like those of any other row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from steer_lit.data.files import arrow_rows
from steer_lit.errors import MissingResource, SteerError
from steer_lit.texts import first_lines

SCHEME = "hf://"
FORM = "hf://owner/name[/config][:split][@revision]"
# Groups: owner/name, config (None: the only or default one), split, revision (None: the newest).
ADDRESS = re.compile(r"hf://(?!datasets/)([\w.-]+/[\w.-]+)(?:/([\w.-]+))?(?::([\w.-]+))?(?:@([\w./-]+))?")
_SECONDS = 30.0  # for the hub to answer


def hub_rows(address: str) -> Iterator[tuple[int, object]]:
    """Yield (number, row) for each row of the dataset, numbered from 1 and fetched on demand.

    Raises MissingResource if the hub or the dataset is out of reach, SteerError if its rows cannot be streamed.
    """
    found = ADDRESS.fullmatch(address)
    assert found is not None  # `rows.source_problem` has looked
    id, config, split, revision = found.groups()
    if Path(id).is_dir():  # `datasets` looks there first, whatever the revision
        raise SteerError(
            f"data {address}: {id} is also a folder here, which would be read in its place. Name a row file in it, "
            "or start in another folder"
        )
    from datasets import load_dataset
    from huggingface_hub import HfApi

    try:
        # Asked first because it answers at once: `load_dataset` tries for half a minute before it says the same.
        revision = HfApi().dataset_info(id, revision=revision, timeout=_SECONDS).sha
    except Exception as error:  # whatever the hub's client and its transport raise
        # The client's first line is the status, the second what is missing.
        raise MissingResource(
            f"data {address}: the hub does not give it ({first_lines(error, 2)}). Go online or check the name, log in "
            f"where it is gated (hf auth login), or fetch it where there is a network (hf download {id} "
            "--repo-type dataset --local-dir <folder>) and name a row file in that folder"
        ) from error
    try:
        rows = load_dataset(id, config, split=split or "train", revision=revision, streaming=True)
        # By default pictures inside rows are decoded here, before anything bounds their size. If the features are not
        # known before the rows, as for JSON, nothing is known to be a picture and `decode` raises.
        tables = (rows if rows.features is None else rows.decode(False)).with_format("arrow")  # of a row each
        yield from enumerate((row for table in tables for row in arrow_rows(table)), start=1)
    except Exception as error:
        raise SteerError(
            f"data {address}: its rows cannot be streamed ({first_lines(error)}). Check config and split, or fetch it "
            f"(hf download {id} --repo-type dataset --local-dir <folder>) and name a row file in that folder"
        ) from error
