"""The process `python -m k2_query.maintenance`: one maintenance of a pipeline's tables, as a job of a cluster runs it.

Settings and pipeline in, a log line for each statement, exit 0 if all of them were carried out.
"""

from __future__ import annotations

import datetime as dt
import logging
import signal
import sys
from contextlib import closing

from k2_core.config import read_settings
from k2_core.errors import K2Error
from k2_core.exits import last_word
from k2_core.logs import configure
from k2_core.spec import PipelineSpec, load_pipeline
from k2_core.tables import open_catalog
from k2_query.engines import trino_client
from k2_query.maintenance.statements import session
from k2_query.maintenance.upkeep import Upkeep
from k2_query.settings import QuerySettings

SERVICE = "k2-maintenance"
_log = logging.getLogger("k2_query.maintenance")


def main() -> int:
    """Maintain the tables once; returns the exit code."""
    # The query that runs is cancelled at Trino on the way out. What it has written is litter, for the next run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        settings = read_settings(QuerySettings)
        configure(SERVICE, settings.log_level)
        error = maintained(settings, load_pipeline(settings.pipeline_file).spec)
    except K2Error as fault:
        error = fault
    return 0 if error is None else last_word(SERVICE, error)


def maintained(settings: QuerySettings, spec: PipelineSpec) -> K2Error | None:
    """Do what is due, log each outcome, and return the first of the errors.

    Raises:
        K2Error: It could not begin, or catalog or warehouse went away.
    """
    keep = dt.timedelta(days=spec.maintenance.snapshot_retention_days)
    client = trino_client(settings, 1, session=session(settings.trino_catalog, keep))
    with closing(client), closing(open_catalog(settings)) as catalog:
        upkeep = Upkeep(catalog, client, settings.trino_catalog, spec.namespace, keep)
        plan = upkeep.plan()
        for table, part in plan.waiting:
            _log.info("waits for enrichment", extra={"table": table, "day": str(part.day), "files": part.files})
        errors = []
        for outcome in upkeep.carry_out(plan):
            level = logging.INFO if outcome.error is None else logging.ERROR
            _log.log(level, "maintained" if outcome.error is None else "failed", extra=outcome.as_json())
            errors += [] if outcome.error is None else [outcome.error]
    _log.info("done", extra={"statements": len(plan.tasks), "failed": len(errors)})
    return errors[0] if errors else None


if __name__ == "__main__":
    sys.exit(main())
