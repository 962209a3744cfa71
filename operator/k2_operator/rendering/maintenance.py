"""The CronJob that has Trino maintain a pipeline's tables: the query image with another command, at times of the spec.

Called by `manifests`. There is one only where a Trino reads the tables and the spec has a schedule. Pure.
"""

from __future__ import annotations

from typing import Final

from k2_operator.names import CRON_JOB, MAINTENANCE, labels
from k2_operator.rendering.deployments import Inputs, Resources, config_hash
from k2_operator.rendering.environment import maintenance_environment
from k2_operator.rendering.objects import metadata
from k2_operator.rendering.pods import Component, Manifest, pod_template

COMMAND: Final = ("python3", "-m", "k2_query.maintenance")
GRACE_S: Final = 30
"""To cancel at Trino the one statement that runs."""
LONGEST_RUN_S: Final = 12 * 3600
"""Three statements that each take as long as one may (`k2_query.maintenance.upkeep.STATEMENT_TIMEOUT_S`)."""
START_WITHIN_S: Final = 3600
"""Later than that a run that was missed, as by a cluster that was down, is left to the next time."""
HISTORY: Final = 3
RESOURCES: Final[Resources] = {
    "requests": {"cpu": "50m", "memory": "256Mi", "ephemeral-storage": "64Mi"},
    "limits": {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "512Mi"},
}
"""It reads manifests and waits: the work is Trino's."""


def maintenance_jobs(inputs: Inputs) -> list[Manifest]:
    """Return the CronJob, or none."""
    effective = inputs.effective
    schedule = effective.maintenance_schedule
    if schedule is None:
        return []
    component = Component(
        name=MAINTENANCE,
        source=None,
        image=inputs.config.images.query,
        port=None,
        grace_s=GRACE_S,
        environment=maintenance_environment(effective, inputs.uid),
        resources=RESOURCES,
        command=COMMAND,
    )
    own = labels(effective.pipeline.metadata.name, MAINTENANCE)
    digest = config_hash(effective, component, inputs.secret_versions)
    return [
        {
            "apiVersion": CRON_JOB.api_version,
            "kind": CRON_JOB.name,
            "metadata": metadata(effective, effective.names.maintenance, own),
            "spec": {
                "schedule": schedule,
                "timeZone": "Etc/UTC",
                # Two at once would rewrite the same files, and one of the two would have worked for nothing.
                "concurrencyPolicy": "Forbid",
                "startingDeadlineSeconds": START_WITHIN_S,
                "successfulJobsHistoryLimit": HISTORY,
                "failedJobsHistoryLimit": HISTORY,
                "jobTemplate": {
                    "metadata": {"labels": own},
                    "spec": {
                        # It tries again by itself what may go well the next time; the rest is for people.
                        "backoffLimit": 0,
                        "activeDeadlineSeconds": LONGEST_RUN_S,
                        "template": pod_template(effective, inputs.config, component, digest),
                    },
                },
            },
        }
    ]
