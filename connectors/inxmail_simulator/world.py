"""Everything one running simulator holds, and the one step that lets time pass."""

from connectors.inxmail_simulator.budget import Budget
from connectors.inxmail_simulator.clock import Clock
from connectors.inxmail_simulator.credentials import Credentials
from connectors.inxmail_simulator.faults import Faults
from connectors.inxmail_simulator.imports import ImportDesk
from connectors.inxmail_simulator.options import Behaviour, SimulatorOptions
from connectors.inxmail_simulator.registrations import lapse
from connectors.inxmail_simulator.request_log import RequestLog
from connectors.inxmail_simulator.state import Account

ROWS_PER_SLICE = 400
"""Import rows carried out before requests get their turn again: some 10 ms of work."""


class World:
    """State, clock, faults and log of one simulator. Not thread-safe: one event loop owns it."""

    def __init__(self, options: SimulatorOptions, clock: Clock | None = None) -> None:
        self.options = options
        self.clock = clock or Clock()
        self.log = RequestLog(options.request_log_entries)
        self.faults = Faults(options.seed, options.faults)
        self.credentials = Credentials(options.credentials)
        self.budget = Budget()
        self.account = Account(options, self.clock.now())
        self.imports = ImportDesk()

    @property
    def behaviour(self) -> Behaviour:
        return self.account.behaviour

    def reset(self, *, keep_options: bool) -> None:
        """Back to the seeds: state, ids, faults, secrets, log and budgets; the clock stays."""
        behaviour = self.behaviour
        self.log = RequestLog(self.options.request_log_entries)
        self.faults = Faults(self.options.seed, self.options.faults)
        self.credentials = Credentials(self.options.credentials)
        self.budget = Budget()
        self.account = Account(self.options, self.clock.now())
        self.imports = ImportDesk()
        if keep_options:
            self.account.behaviour = behaviour

    def settle(self, row_limit: int = ROWS_PER_SLICE) -> bool:
        """Let everything happen that is due by the clock; True when import rows that are due remain."""
        now, account = self.clock.now(), self.account
        for log in account.logs().values():
            log.settle(now)
        lapse(account, now)
        account.modifications.compact(account.recipients.__contains__, 2 * len(account.recipients) + 10_000)
        return self.imports.settle(account, now, row_limit) if self.imports.waiting else False
