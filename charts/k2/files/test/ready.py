"""What `helm test` asks: is the operator ready, and does the API server know K2Pipelines?

Runs in the cli image with the service account that is mounted there. Writes one line a check; exit code 1 if one fails.
"""

import os
import ssl
import sys
import time
from pathlib import Path

import httpx

DEADLINE_S = float(os.environ.get("K2_TEST_DEADLINE_SECONDS", "60"))
"""The operator may just be starting; a Service also takes a moment to point at it."""
ACCOUNT = Path(os.environ.get("K2_ACCOUNT_DIR", "/var/run/secrets/kubernetes.io/serviceaccount"))


def operator_is_ready() -> str:
    """Ask the operator through its Service; return its answer."""
    answer = httpx.get(os.environ["K2_OPERATOR_URL"] + "/readyz", timeout=5).raise_for_status()
    return " ".join(answer.text.split())[:200]


def api_server_has_the_resource() -> str:
    """Look for K2Pipeline in the API server's discovery, which every service account may read."""
    server = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    headers = {"Authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}"}
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    answer = httpx.get(server + "/apis/k2.dev/v1alpha1", headers=headers, timeout=5, verify=trust).raise_for_status()
    kinds = sorted({resource["kind"] for resource in answer.json()["resources"]})
    if "K2Pipeline" not in kinds:
        raise ValueError(f"found the kinds {kinds} in k2.dev/v1alpha1, expected K2Pipeline")
    return f"k2.dev/v1alpha1 has {', '.join(kinds)}"


def main() -> int:
    """Run each check until it succeeds or the deadline has passed."""
    failed = 0
    deadline = time.monotonic() + DEADLINE_S
    for check in (operator_is_ready, api_server_has_the_resource):
        while True:
            try:
                line = f"ok: {check.__name__}: {check()}"
            except (httpx.HTTPError, OSError, ValueError, KeyError) as error:  # also an answer of another shape
                if time.monotonic() < deadline:
                    time.sleep(1)
                    continue
                failed = 1
                line = f"failed: {check.__name__}: {error}"
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
            break
    return failed


if __name__ == "__main__":
    sys.exit(main())
