"""The key and the spelling rules behind every hash: each process makes sure of them before it does anything."""

from connectors.store import schema as store
from schemas.ids import NORMALISER_VERSION, KeyRing
from streams.settings import Settings


def fingerprints(settings: Settings) -> tuple[str, tuple[str, ...]]:
    """Of the key that writes, and of the others in the ring. Raises: Misconfigured, when there is no usable key."""
    writing = settings.key_ring().fingerprint()
    others = settings.hmac_keys[1:]
    return writing, tuple(KeyRing([bytes.fromhex(key.get_secret_value())]).fingerprint() for key in others)


async def check_identity(settings: Settings) -> None:
    """Refuse to start with another key or normaliser than the one provisioned.

    Raises: Misconfigured, saying which; Unavailable, when the pipeline's database is not there.
    """
    writing, others = fingerprints(settings)
    dsn = settings.database.sync_dsn.get_secret_value()
    await store.check_identity(dsn, writing, NORMALISER_VERSION, also_matches=others)
