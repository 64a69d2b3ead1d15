"""A first load: a CRM that holds people already, from the start of the snapshot until Inxmail has everybody."""

import json
import time
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg

from connectors.debezium.connect import Connect
from connectors.debezium.connector import slot_of
from connectors.debezium.source import drop_slot
from connectors.smartwe.sample import load_sample
from streams.demo.course import Arrivals, Stage
from streams.demo.sides import Sides
from streams.demo.targets import targets_of
from streams.demo.visitor import Visitor
from streams.settings import read_settings

_LONGEST_SECONDS = 180.0
_STOP_SECONDS = 30.0


async def seconds_of_first_load(home: Path, stage: Stage, *, addresses: int) -> float | None:
    """Load people while capture is stopped and has forgotten where it was, then let it begin; None: not in time.

    The stack of `home` is empty but for its clients.
    """
    endpoints = json.loads((home / "endpoints.json").read_bytes())
    settings = read_settings(home)
    name = settings.capture.connector
    async with AsyncExitStack() as opened:
        connect = await opened.enter_async_context(Connect(endpoints["connect"]))
        await connect.forget_offsets(name, within_seconds=_STOP_SECONDS)
        admin = await asyncpg.connect(settings.database.crm_admin_dsn.get_secret_value())
        opened.push_async_callback(admin.close)
        await drop_slot(admin, slot_of(name))
        visitors = {
            client: await opened.enter_async_context(Visitor(client, account))
            for client, account in endpoints["inxmail"].items()
        }
        stage.say(f"{addresses:,} addresses are loaded while capture is stopped")
        await load_sample(
            endpoints["postgres_dsn"],
            addresses=addresses,
            seed=1,
            clients=list(visitors),
            bindings={client: await targets_of(visitor) for client, visitor in visitors.items()},
        )
        crm = await asyncpg.connect(endpoints["postgres_dsn"])
        opened.push_async_callback(crm.close)
        sides = Sides(crm, visitors, settings.key_ring().email_hashes)
        expected = await sides.expected()
        arrivals = Arrivals(visitors, stage)
        arrivals.expect(expected)
        stage.say("capture begins")
        began = time.monotonic()
        await connect.resume(name)
        equal_at = await arrivals.all_there(expected, sides, began + _LONGEST_SECONDS)
    return None if equal_at is None else round(equal_at - began, 2)
