"""A certificate for 127.0.0.1 that nobody but its own file vouches for."""

from __future__ import annotations

import subprocess
from pathlib import Path


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Return the file of a new certificate, and that of the certificate together with its key."""
    certificate, both = folder / "certificate.pem", folder / "both.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(both)]
    subprocess.run(
        ["openssl", "req", "-x509", *key, *subject, "-out", str(certificate)], check=True, capture_output=True
    )
    both.write_bytes(both.read_bytes() + certificate.read_bytes())
    return certificate, both
