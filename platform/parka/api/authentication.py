"""Bearer tokens of the public API."""

from rest_framework.authentication import BaseAuthentication


class TokenAuthentication(BaseAuthentication):
    """``Authorization: Bearer pk_…``."""

    def authenticate(self, request: object) -> None:
        return None
