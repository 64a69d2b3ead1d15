"""What stands above single persons: clients, distributions, their lists, mappings, patterns. Pure."""

from collections.abc import Iterable, Mapping

import msgspec

from schemas.smartwe import Binding, Client, Distribution, FieldMapping, Row, Suppression


class Structure(msgspec.Struct, frozen=True):
    """All live structure rows, indexed as the law asks for them."""

    clients: Mapping[str, Client]
    distributions: Mapping[str, Distribution]
    bindings: Mapping[tuple[str, str], Binding]
    """By (distribution, client)."""
    lists: Mapping[tuple[str, int], Binding]
    """By (client, list id)."""
    mappings: Mapping[str, tuple[FieldMapping, ...]]
    """By client, in attribute order."""
    patterns: tuple[Suppression, ...]


def structure_of(rows: Iterable[Row]) -> Structure:
    """The structure that these rows make; rows in the recycle bin do not count."""
    clients: dict[str, Client] = {}
    distributions: dict[str, Distribution] = {}
    bindings: dict[tuple[str, str], Binding] = {}
    lists: dict[tuple[str, int], Binding] = {}
    mappings: dict[str, list[FieldMapping]] = {}
    patterns: list[Suppression] = []
    for row in sorted(rows, key=lambda row: row.gguid):
        match row:
            case Client():
                clients[row.baf_client_id] = row
            case Distribution():
                distributions[row.gguid] = row  # one in the recycle bin still says what becomes of its members
            case Binding(deleted_at=None):
                bindings[row.distribution_gguid, row.baf_client_id] = row
                if row.inxmail_list_id is not None:
                    lists[row.baf_client_id, row.inxmail_list_id] = row
            case FieldMapping(deleted_at=None, state="active", direction="out" | "both"):
                mappings.setdefault(row.baf_client_id, []).append(row)
            case Suppression(deleted_at=None, match="pattern"):
                patterns.append(row)
    return Structure(
        clients=clients,
        distributions=distributions,
        bindings=bindings,
        lists=lists,
        mappings={
            client: tuple(sorted(of_client, key=lambda mapping: mapping.inxmail_attribute_id))
            for client, of_client in mappings.items()
        },
        patterns=tuple(patterns),
    )


def is_open(structure: Structure, binding: Binding) -> bool:
    """Whether the pipeline may change this list at all."""
    client = structure.clients.get(binding.baf_client_id)
    distribution = structure.distributions.get(binding.distribution_gguid)
    return (
        binding.state == "active"
        and binding.direction in ("out", "both")
        and client is not None
        and client.state == "active"
        and distribution is not None
        and (distribution.deleted_at is None or binding.on_distribution_delete == "unsubscribe_all")
    )
