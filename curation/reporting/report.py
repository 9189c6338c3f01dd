"""`curate report`: one page for a person to look at what a run did, and what it would do under other thresholds."""

from curation import rundir
from curation.plan import Plan, make_plan
from curation.reporting.report_data import page_data
from curation.reporting.report_html import page
from curation.stores.storage import Store

REPORT = "report.html"


def write_report(directory: str) -> str:
    """Write report.html into a run directory (a path or URL) and return where it is.

    Raises UsageError where the directory holds no run or no scores yet.
    """
    store = Store(directory)
    return report_of(store, make_plan(rundir.load_manifest(store, ())))


def report_of(store: Store, plan: Plan) -> str:
    """The report of a run whose plan is known; returns where it is."""
    store.write(REPORT, page(page_data(store, plan)).encode())
    return store.uri(REPORT)
