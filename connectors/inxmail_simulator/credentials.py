"""Who may enter: key ids and their secrets, which somebody may regenerate while a client is at work."""

import base64
from collections.abc import Mapping

from pydantic import SecretStr


class Credentials:
    """User name → secret, looked up by the header of a request."""

    def __init__(self, secrets: Mapping[str, SecretStr]) -> None:
        self._token_of: dict[str, str] = {}
        self._users: dict[str, str] = {}
        for user, secret in secrets.items():
            self.give(user, secret.get_secret_value())

    @property
    def users(self) -> list[str]:
        return sorted(self._token_of)

    def give(self, user: str, secret: str) -> None:
        """Let the user in with this secret from now on, and with no other."""
        self.revoke(user)
        token = base64.b64encode(f"{user}:{secret}".encode()).decode()
        self._token_of[user] = token
        self._users[token] = user

    def revoke(self, user: str) -> bool:
        """Let the user in no longer; False when the user was not known."""
        token = self._token_of.pop(user, None)
        self._users.pop(token or "", None)
        return token is not None

    def user_of(self, authorization: str) -> str | None:
        scheme, _, token = authorization.partition(" ")
        return self._users.get(token.strip()) if scheme.lower() == "basic" else None
