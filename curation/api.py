"""The functions that a notebook or a script calls, as `curation.run`, `curation.select` and so on.

`import curation` loads none of it: each name is loaded when it is first used.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.dataset as ds

from curation import phases, rundir
from curation.reporting.ledger import Ledger
from curation.scoring import chunkfile
from curation.shards import LatentDataset as Shards
from curation.stores.storage import Store

__all__ = ["Shards", "open_scores", "open_selection", "run", "select"]


def run(
    manifest: str,
    out: str | None = None,
    *,
    overrides: Sequence[str] = (),
    engine: str = "auto",
    address: str | None = None,
    retry: bool = False,
) -> Ledger:
    """Score, select and encode, as `curate run` does; continues a run that was interrupted.

    manifest   path or URL of the YAML file
    out        the run directory, a path or URL; `runs/NAME` where it is None
    overrides  `KEY=VALUE`, as `--set` takes them
    engine     "auto", "ray" or "inline"
    address    of a running Ray cluster: "auto" or HOST:PORT
    retry      try again what failed in an earlier run

    Returns the account: `records_in`, `kept`, and `dropped` and `quarantined` by reason. Raises UsageError for a wrong
    manifest, NothingKept where no record is left, and CurationError for all else, each with a sentence.
    """
    return phases.run(manifest, out, overrides, engine=engine, address=address, retry=retry)


def select(directory: str, *, overrides: Sequence[str] = ()) -> Ledger:
    """Decide again from the stored scores of a run directory, as `curate select` does; loads no model.

    overrides  `KEY=VALUE` as `--set` takes them: `select.keep=["aesthetic >= p50"]`; the manifest in the run directory
               says so from then on
    """
    return phases.reselect(directory, overrides)


def open_scores(directory: str) -> ds.Dataset:
    """The scores of a run directory as a pyarrow dataset, a row per record; nothing is read yet.

    `open_scores(DIR).to_table(columns=["id", "aesthetic"])` reads two columns. Raises UsageError where there are none.
    """
    return chunkfile.dataset(Store(directory))


def open_selection(directory: str) -> pa.Table:
    """The decision of a run directory, a row per record: id, decision, stage, reason, value, threshold, duplicate_of.

    Raises UsageError where none was made.
    """
    return rundir.read_selection(Store(directory))
