"""Rows of a dataset on the Hugging Face hub, streamed: `hf://owner/name[/config][:split][@revision]`.

Without a revision, the newest one is looked up first and used throughout. Pictures that rows name by a path are not
fetched; they are looked up in `data.source.folder` like those of any other row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from steer_lit.data.files import arrow_rows
from steer_lit.errors import MissingResource, SteerError
from steer_lit.texts import first_lines

SCHEME = "hf://"
FORM = "hf://owner/name[/config][:split][@revision]"
_ADDRESS = re.compile(r"hf://(?!datasets/)([\w.-]+/[\w.-]+)(?:/([\w.-]+))?(?::([\w.-]+))?(?:@([\w./-]+))?")
_SECONDS = 30.0  # for the hub to answer


@dataclass(frozen=True, slots=True)
class HubAddress:
    """One split of a hub dataset. `config` None means its only or default config, `revision` None the newest."""

    id: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None

    @classmethod
    def parse(cls, address: str) -> HubAddress:
        """Parse an address. Raises ValueError, which states the form, if it has another one."""
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise ValueError(f"is no address of a hub dataset: {FORM}")
        id, config, split, revision = found.groups()
        return cls(id, config, split or "train", revision)


def hub_rows(address: str) -> Iterator[tuple[int, object]]:
    """Yield (number, row) for each row of the dataset, numbered from 1 and fetched on demand.

    Raises MissingResource if the hub or the dataset is out of reach, SteerError if its rows cannot be streamed.
    """
    at = HubAddress.parse(address)
    if Path(at.id).is_dir():  # `datasets` looks there first, whatever the revision
        raise SteerError(
            f"data {address}: {at.id} is also a folder here, which would be read in its place. Name a row file in it, "
            "or start in another folder"
        )
    from datasets import load_dataset
    from huggingface_hub import HfApi

    try:
        # Asked first because it answers at once: `load_dataset` tries for half a minute before it says the same.
        revision = HfApi().dataset_info(at.id, revision=at.revision, timeout=_SECONDS).sha
    except Exception as error:  # whatever the hub's client and its transport raise
        # The client's first line is the status, the second what is missing.
        raise MissingResource(
            f"data {address}: the hub does not give it ({first_lines(error, 2)}). Go online or check the name, log in "
            f"where it is gated (hf auth login), or fetch it where there is a network (hf download {at.id} "
            "--repo-type dataset --local-dir <folder>) and name a row file in that folder"
        ) from error
    try:
        rows = load_dataset(at.id, at.config, split=at.split, revision=revision, streaming=True)
        # By default pictures inside rows are decoded here, before anything bounds their size. If the features are not
        # known before the rows, as for JSON, nothing is known to be a picture and `decode` raises.
        tables = (rows if rows.features is None else rows.decode(False)).with_format("arrow")  # of a row each
        yield from enumerate((row for table in tables for row in arrow_rows(table)), start=1)
    except Exception as error:
        raise SteerError(
            f"data {address}: its rows cannot be streamed ({first_lines(error)}). Check config and split, or fetch it "
            f"(hf download {at.id} --repo-type dataset --local-dir <folder>) and name a row file in that folder"
        ) from error
