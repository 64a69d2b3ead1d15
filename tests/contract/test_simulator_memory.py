"""An account survives the simulator that is told to stop: ids, memberships and logs go on where they were."""

from pathlib import Path

import pytest

from connectors.inxmail_simulator import memory
from connectors.inxmail_simulator.options import SimulatorOptions, options_from
from connectors.inxmail_simulator.server import serving
from connectors.inxmail_simulator.world import World
from schemas.errors import Misconfigured

SECRETS = {
    "INXMAIL_SIMULATOR_CREDENTIALS": '{"someone": "a secret"}',
    "INXMAIL_SIMULATOR_CONTROL_TOKEN": "a token",
}


@pytest.fixture
def options() -> SimulatorOptions:
    return options_from(None, SECRETS, port=0)


async def test_an_account_goes_on_where_it_was(options: SimulatorOptions, tmp_path: Path) -> None:
    file = tmp_path / "account.state"
    async with serving(options, state=file) as (_, first):
        account = first.world.account
        added = account.add_list("Kept", 1.0, *[account.lists[7].opt_in] * 2)
        memory.keep(first.world, file)

    async with serving(options, state=file) as (_, second):
        again = second.world.account

        assert again.lists[added.id].name == "Kept"
        assert again.changes == account.changes
        assert again.add_list("Next", 2.0, *[added.opt_in] * 2).id == added.id + 1


async def test_a_damaged_file_is_named_and_left_alone(options: SimulatorOptions, tmp_path: Path) -> None:
    file = tmp_path / "account.state"
    file.write_bytes(b"noise")

    with pytest.raises(Misconfigured, match="nothing was started"):
        async with serving(options, state=file):
            pass

    assert file.read_bytes() == b"noise"


def test_what_is_kept_can_be_read_by_its_owner_only(options: SimulatorOptions, tmp_path: Path) -> None:

    file = tmp_path / "account.state"
    memory.keep(World(options), file)

    assert file.stat().st_mode & 0o777 == 0o600
