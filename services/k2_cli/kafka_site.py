"""Where a pipeline's Kafka is, for commands that need it: a folder's, or what the variables of services say."""

from __future__ import annotations

import os
from pathlib import Path

from k2_cli.environment import folder_settings
from k2_cli.folder import StateFolder
from k2_core.config import ServiceSettings, read_settings
from k2_core.errors import KafkaUnavailableError
from k2_core.spec import Pipeline, load_pipeline


def kafka_site(directory: Path, pipeline_file: Path | None = None) -> tuple[Pipeline, ServiceSettings]:
    """Return the pipeline of a folder, or of a file and the variables that its services have, and how to reach Kafka.

    Raises:
        SetupError: No pipeline has ever run on the folder.
        SpecError: The file is wrong.
        KafkaUnavailableError: Kafka lies in the folder and does not run.
    """
    if pipeline_file is not None and "K2_KAFKA_BOOTSTRAP_SERVERS" in os.environ:
        return load_pipeline(pipeline_file), read_settings(ServiceSettings)
    folder = StateFolder(directory)
    folder.require_data()
    pipeline = load_pipeline(pipeline_file or folder.pipeline_file)
    running = folder.running()
    if pipeline.spec.kafka is None and running is None:
        raise KafkaUnavailableError(f"Kafka of {folder.root}: found nothing running, expected `k2 up` on this folder")
    return pipeline, folder_settings(pipeline, folder, running.kafka if running is not None else "")
