from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_operator.rendering.trino_memory import LEAST_BESIDE_MIB, Memory, divided


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        pytest.param("2Gi", Memory(heap=1408, headroom=422, query=844), id="the least"),
        pytest.param("4Gi", Memory(heap=3072, headroom=921, query=1843), id="a worker's default"),
        pytest.param("4294967296", Memory(heap=3072, headroom=921, query=1843), id="in bytes"),
        pytest.param("64Gi", Memory(heap=49152, headroom=14745, query=29491), id="a large one"),
    ],
)
def test_how_a_node_divides_its_memory(limit: str, expected: Memory) -> None:
    assert divided(limit) == expected


@given(st.integers(2048, 1024 * 1024))
def test_a_pod_is_never_killed_for_its_heap_and_trino_starts_with_what_queries_get(limit_mib: int) -> None:
    found = divided(f"{limit_mib}Mi")
    assert limit_mib - found.heap >= max(LEAST_BESIDE_MIB, limit_mib // 4)
    assert 0 < found.query < found.heap - found.headroom
