"""`python -m k2_ingest`: one source of a pipeline into Kafka, configured by `K2_*` variables.

Exit codes: 0 all received trades are in the log; 2 a setting or the pipeline file is wrong; 3 something that is needed
is not there; 4 some trades were not acknowledged in time.
"""

from __future__ import annotations

import logging
import sys

import uvloop

from k2_core import logs
from k2_core.config import read_settings
from k2_core.errors import K2Error
from k2_core.exits import last_word
from k2_core.runtime import tune_for_batches
from k2_ingest.service import serve
from k2_ingest.settings import IngestSettings


def main() -> int:
    """Run the process and return its exit code."""
    logs.configure("k2-ingest", "INFO")
    try:
        settings = read_settings(IngestSettings)
        logs.configure("k2-ingest", settings.log_level)
        for chatty in ("httpx", "picows"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        tune_for_batches()
        return uvloop.run(serve(settings))
    except K2Error as error:
        return last_word("k2-ingest", error)


if __name__ == "__main__":
    sys.exit(main())
