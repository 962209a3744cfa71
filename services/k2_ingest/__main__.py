"""`python -m k2_ingest`: one source of a pipeline into Kafka, configured by `K2_*` variables.

Exit codes: 0 all received trades are in the log; 2 a setting or the pipeline file is wrong; 3 something that is needed
is not there; 4 some trades were not acknowledged in time.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

import uvloop

from k2_core import logs
from k2_core.config import read_settings
from k2_core.errors import K2Error, SpecError
from k2_core.runtime import tune_for_batches
from k2_ingest.service import serve
from k2_ingest.settings import IngestSettings

EXIT_WRONG_INPUT: Final = 2
EXIT_CANNOT_RUN: Final = 3

log = logging.getLogger(__name__)


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
    except SpecError as error:
        log.error("%s", error)  # noqa: TRY400 - the message says it all; a traceback would bury it
        return EXIT_WRONG_INPUT
    except K2Error as error:
        log.error("%s", error)  # noqa: TRY400 - as above
        return EXIT_CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main())
