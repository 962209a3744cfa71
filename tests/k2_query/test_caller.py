from __future__ import annotations

from k2_query.caller import calling, current_key_id


def test_it_is_known_inside_and_forgotten_after() -> None:
    assert current_key_id() is None
    with calling("desk"):
        assert current_key_id() == "desk"
        with calling("other"):
            assert current_key_id() == "other"
        assert current_key_id() == "desk"
    assert current_key_id() is None
