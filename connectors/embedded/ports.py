"""Free ports on the loopback interface."""

import random
import socket
from collections.abc import Collection, Iterable, Mapping

import psutil

from schemas.errors import Misconfigured

# Below every system's range for outgoing connections: a client that keeps trying a port of that range while its
# server restarts can end up connected to itself, and then the server finds its port taken.
_FIRST, _LAST = 20_000, 30_000


def choose(
    named: Mapping[str, int | None],
    before: Mapping[str, int],
    draw: random.Random,
    *,
    without: Collection[int] = (),
) -> dict[str, int]:
    """A port for each name: the named one, else the one it had before if free, else any free one.

    `without`: ports that others will use and may not have taken yet.
    Raises: Misconfigured, naming every named port that is taken.
    """
    taken = [f"port {port} ({name})" for name, port in named.items() if port is not None and not is_free(port)]
    if taken:
        raise Misconfigured(f"{_owners(port for port in named.values() if port)}; stop that or name another port")
    chosen: dict[str, int] = {}
    for name, port in named.items():
        earlier = before.get(name)
        if port is not None:
            chosen[name] = port
        elif earlier is not None and earlier not in (*chosen.values(), *without) and is_free(earlier):
            chosen[name] = earlier
        else:
            chosen[name] = _any_free(draw, {*without, *chosen.values(), *(port for port in named.values() if port)})
    return chosen


def is_free(port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _any_free(draw: random.Random, without: set[int]) -> int:
    for _ in range(1_000):
        port = draw.randrange(_FIRST, _LAST)
        if port not in without and is_free(port):
            return port
    raise Misconfigured(f"no free port between {_FIRST} and {_LAST}; name the ports")


def _owners(ports: Iterable[int]) -> str:
    wanted = {port for port in ports if not is_free(port)}
    owners = {}
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port in wanted:
            owners[connection.laddr.port] = connection.pid
    return ", ".join(
        f"port {port} is already in use" + (f" by process {owners[port]}" if owners.get(port) else "")
        for port in sorted(wanted)
    )
