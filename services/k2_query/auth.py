"""API keys: who may ask. Keys are `id.secret`; only keyed digests of them are kept.

Called by `k2_query.middleware` for each request. Never logs or returns a key; an id may be logged.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

from pydantic import SecretStr

from k2_core.errors import SpecError
from k2_query.settings import DEVELOPMENT_KEY, QuerySettings, is_loopback

KEY_HEADER: Final = "X-API-Key"
MIN_SECRET_CHARACTERS: Final = 16
"""Of base64 this is 96 bits: not to be guessed over a network."""


class KeyRing:
    """Checks keys in the same time whether an id is known or not.

    Args:
        keys: By id the whole key, `id.secret`.
        accept_development_key: Whether a client on loopback may use the well-known key.
    """

    def __init__(self, keys: dict[str, SecretStr], *, accept_development_key: bool) -> None:
        self._pepper = secrets.token_bytes(32)
        self._digests = {key_id: self._digest(key.get_secret_value()) for key_id, key in keys.items()}
        if accept_development_key:
            self._digests[DEVELOPMENT_KEY] = self._digest(DEVELOPMENT_KEY)
        self._nobody = self._digest(secrets.token_urlsafe())

    def owner(self, presented: str | None, client_host: str | None) -> str | None:
        """Return the id of a key, or None if it opens nothing for this client."""
        key = presented or ""
        key_id = key.partition(".")[0]
        matches = hmac.compare_digest(self._digests.get(key_id, self._nobody), self._digest(key))
        if not matches or key_id not in self._digests:
            return None
        if key_id == DEVELOPMENT_KEY and not is_loopback(client_host):
            return None
        return key_id

    def _digest(self, key: str) -> bytes:
        return hmac.new(self._pepper, key.encode(), hashlib.sha256).digest()


def key_ring(settings: QuerySettings) -> KeyRing:
    """Return the keys of the settings.

    Raises:
        SpecError: A key has another form, or there is none at all; never shows a secret.
    """
    keys: dict[str, SecretStr] = {}
    text = settings.api_keys.get_secret_value() if settings.api_keys else ""
    for number, pair in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
        key_id, _, secret = pair.partition(".")
        if not key_id or len(secret) < MIN_SECRET_CHARACTERS:
            raise SpecError(
                "K2_API_KEYS",
                f"key {number} without an id or with a secret of {len(secret)} characters",
                f"id.secret pairs, comma separated, secrets of {MIN_SECRET_CHARACTERS} characters or more",
            )
        if key_id in keys:
            raise SpecError("K2_API_KEYS", f"the id {key_id} twice", "each id once")
        keys[key_id] = SecretStr(pair)
    if not keys and not settings.accepts_development_key():
        raise SpecError("K2_API_KEYS", "no key", "id.secret pairs: without one nobody could ask anything")
    return KeyRing(keys, accept_development_key=settings.accepts_development_key())
