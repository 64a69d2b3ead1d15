"""The client worker's own world, for histories of delivery."""

from tests.integration.conftest import bus, client_dsn, new_client

__all__ = ["bus", "client_dsn", "new_client"]
