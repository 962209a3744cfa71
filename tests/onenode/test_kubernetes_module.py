"""The go.mod that lets Kubernetes' programs be built from their module."""

from __future__ import annotations

from onenode.kubernetes_module import build_flags, go_mod, packages

OWN = """module k8s.io/kubernetes

go 1.25.0

require (
\tgithub.com/spf13/cobra v1.10.0
\tk8s.io/api v0.0.0
\tk8s.io/klog/v2 v2.130.1
\tk8s.io/pod-security-admission v0.0.0
\tk8s.io/utils v0.0.0-20251002143259-bc988d571ff4
)
"""


def test_staging_modules_alone_are_replaced_with_the_published_version() -> None:
    assert go_mod(OWN, "1.35.4").splitlines() == [
        "module k2.dev/tools",
        "go 1.25.0",
        "require k8s.io/kubernetes v1.35.4",
        "replace k8s.io/api => k8s.io/api v0.35.4",
        "replace k8s.io/pod-security-admission => k8s.io/pod-security-admission v0.35.4",
    ]


def test_programs_report_their_version() -> None:
    assert "-X k8s.io/component-base/version.gitVersion=v1.35.4" in build_flags("1.35.4")[-1]


def test_a_program_is_a_package_of_the_module() -> None:
    assert packages(["kubelet"]) == ["k8s.io/kubernetes/cmd/kubelet"]
