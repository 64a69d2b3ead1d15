"""From what should be and what is held to the calls that make them equal. Pure.

The difference is computed anew whenever anything ends, so a plan may leave things for later: a mailbox whose rest is
not finished is planned again.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import timedelta

import msgspec

from schemas.causes import is_ours
from schemas.delivery import (
    MAILBOX,
    NO_LIST,
    VALUES,
    HeldMailbox,
    OpenRow,
    Refusal,
    Settled,
    attribute_scope,
    list_scope,
    version_text,
)
from schemas.inxmail import Attribute
from schemas.mutations import Held, HeldList, ListWish, Mutation, Outcome, Want
from streams.delivery.means import Means, write_singly
from streams.delivery.values import ATTRIBUTE_UNKNOWN, Unfit, canonical
from streams.mailbox import door

OBJECTION_RULES = frozenset({"objected", "blocked", "person_request"})
"""Rules under which leaving is the person's own word: these go first."""
RECIPIENT_MISSING = "recipient_missing"
NO_PROOF = "no_proof"
"""Nobody is subscribed without one: what an import overrides is the confirmation that the list may ask for."""
HELD_UNSUBSCRIBED = "held_unsubscribed"
"""The client holds the list as left, and the wish's proof is not newer."""


class Unsubscribe(msgspec.Struct, frozen=True):
    """End one subscription. `was`: how the list was held when this was planned."""

    mailbox: str
    email: str
    list_id: int
    mutation: Mutation
    was: Held
    is_objection: bool


class Patch(msgspec.Struct, frozen=True):
    """Write these attributes of a known recipient: attribute id → canonical value."""

    mailbox: str
    recipient_id: int
    email: str
    mutation: Mutation
    values: dict[str, str | None]


class Import(msgspec.Struct, frozen=True):
    """Rows of one list (None: attributes only), one set of columns, one manner."""

    list_id: int | None
    resubscribe: bool
    columns: tuple[str, ...]
    rows: tuple[OpenRow, ...]


class Settlement(msgspec.Struct, frozen=True):
    """Nothing is left to do for this mutation: the answer to it. `claims`: list id → whom it is held for."""

    mailbox: str
    dirt: int
    settled: Settled
    claims: dict[int, tuple[str, ...]]


class Plan(msgspec.Struct, frozen=True):
    """What to do. `waiting`: nothing may be done now, the end of something will bring the mailbox back.
    `refused`: mailbox → rule of a wish that the door does not let through; a newer decision must come.
    """

    calls: tuple[Unsubscribe | Patch, ...]
    imports: tuple[Import, ...]
    reads: tuple[str, ...]
    settlements: tuple[Settlement, ...]
    waiting: dict[str, int]
    refused: dict[str, str]


def unknown_attributes(mailboxes: Iterable[HeldMailbox], attributes: Mapping[str, Attribute]) -> set[str]:
    """The attribute ids that mutations name and no definition is known of."""
    named = (held.desired.values for held in mailboxes if held.desired is not None)
    return {attribute_id for values in named for attribute_id in values if attribute_id not in attributes}


def plan(
    mailboxes: Sequence[HeldMailbox],
    attributes: Mapping[str, Attribute],
    *,
    busy_lists: Container[int],
    means: Means,
    import_rows: int,
    skew: timedelta,
    resting: Container[str] = frozenset(),
) -> Plan:
    """The calls for these mailboxes, objections first.

    resting: mailboxes that are not to be subscribed to anything yet; everything else is done for them.
    attributes: by id as decimal text. busy_lists: where an import is under way (NO_LIST for attributes alone): another
    has to wait. means: whether single calls write the attributes sooner than an import.
    """
    views = [_View(held, attributes, skew, rests=held.mailbox in resting) for held in mailboxes]
    singly = write_singly(sum(view.is_patch and not view.must_read for view in views), means)
    calls: list[Unsubscribe | Patch] = []
    groups: dict[tuple[int, bool, tuple[str, ...]], list[OpenRow]] = {}
    reads: list[str] = []
    settlements: list[Settlement] = []
    waiting: dict[str, int] = {}
    refused: dict[str, str] = {}
    for view in views:
        mailbox = view.held.mailbox
        calls += view.leaving
        if view.must_read:
            reads.append(mailbox)
        elif view.is_patch and (singly or view.must_go_singly):
            calls.append(view.patch())
        for key, row in view.rows(singly=singly):
            if key[0] in busy_lists:
                waiting[mailbox] = key[0]
            else:
                groups.setdefault(key, []).append(row)
        if view.barred:
            refused[mailbox] = view.barred
        if view.is_finished:
            settlements.append(view.settlement())
    calls.sort(key=_turn)
    return Plan(
        calls=tuple(calls),
        imports=tuple(_imports(groups, import_rows)),
        reads=tuple(reads),
        settlements=tuple(settlements),
        waiting=waiting,
        refused=refused,
    )


def _turn(call: Unsubscribe | Patch) -> int:
    if isinstance(call, Unsubscribe):
        return 0 if call.is_objection else 1
    return 2


def _imports(groups: Mapping[tuple[int, bool, tuple[str, ...]], list[OpenRow]], most: int) -> Iterable[Import]:
    """Each group in files of at most so many rows, the largest first. Resubscribing goes last.

    Which of them may be sent beside each other is not decided here.
    """
    for (list_id, resubscribe, columns), rows in sorted(
        groups.items(), key=lambda found: (found[0][1], -len(found[1]))
    ):
        for first in range(0, len(rows), most):
            yield Import(list_id or None, resubscribe, columns, tuple(rows[first : first + most]))


class _View:
    """One mailbox: what differs, and what may be done about it."""

    def __init__(
        self, held: HeldMailbox, attributes: Mapping[str, Attribute], skew: timedelta, *, rests: bool = False
    ) -> None:
        self.held = held
        self._rests = rests
        self._skew = skew
        self._desired = held.desired
        self._wanted: dict[str, str | None] = {}
        self.rejected: dict[str, str] = {}
        if held.desired is not None:
            self._canonicalise(held.desired, attributes)
        self._changed = {
            attribute_id: text
            for attribute_id, text in self._wanted.items()
            if held.recipient_id is None or attribute_id not in held.values or held.values[attribute_id] != text
        }
        self._mailbox_error = self._refused(MAILBOX)
        self.must_go_singly = self._refused(VALUES) is not None
        """Whether its values can only be written by a call that names the one at fault."""
        self._list_error: str | None = None
        self.barred: str | None = None
        """The rule of a wish against which an entry of the log speaks: a newer decision is on its way."""
        self.must_read = False
        self._joining: list[tuple[ListWish, bool]] = []
        """Wishes to be carried out by an import, and whether it must resubscribe."""
        self.leaving: list[Unsubscribe] = []
        self._waits = False
        self._judge()

    def _canonicalise(self, desired: Mutation, attributes: Mapping[str, Attribute]) -> None:
        for attribute_id, value in desired.values.items():
            attribute = attributes.get(attribute_id)
            found = Unfit(ATTRIBUTE_UNKNOWN) if attribute is None else canonical(attribute, value)
            if isinstance(found, Unfit):
                self.rejected[attribute_id] = found.code
                continue
            refusal = self.held.refusals.get(attribute_scope(attribute_id))
            if refusal is not None and refusal.against == found:
                self.rejected[attribute_id] = refusal.code
            else:
                self._wanted[attribute_id] = found

    def _refused(self, scope: str) -> str | None:
        """The code with which the far side refused this scope for the present version."""
        refusal: Refusal | None = self.held.refusals.get(scope)
        if refusal is None or self._desired is None or refusal.against != version_text(self._desired.version):
            return None
        return refusal.code

    def _judge(self) -> None:
        wishes = self._desired.lists if self._desired is not None else ()
        wanted = {wish.list_id: wish.want for wish in wishes}
        for wish in wishes:
            self._judge_list(wish, self.held.lists.get(wish.list_id))
        for list_id, held in self.held.lists.items():
            if list_id in self.held.open_lists:
                self._waits |= held.state is Held.UNKNOWN  # no reading says how it will be when the import has ended
            elif held.state is Held.UNKNOWN:
                self.must_read |= wanted.get(list_id) is not Want.UNSUBSCRIBED
            elif held.state is Held.SUBSCRIBED:
                self.must_read |= self.held.recipient_id is None  # she signed up by herself: who is it?

    def _judge_list(self, wish: ListWish, held: HeldList | None) -> None:
        state = held.state if held is not None else Held.NONE
        if (code := self._refused(list_scope(wish.list_id))) is not None:
            self._list_error = self._list_error or code
        elif wish.want is Want.UNSUBSCRIBED:
            self._judge_leaving(wish, state)
        elif wish.want is Want.SUBSCRIBED and state in (Held.NONE, Held.UNSUBSCRIBED):
            self._judge_joining(wish, held)

    def _judge_leaving(self, wish: ListWish, state: Held) -> None:
        in_import = wish.list_id in self.held.open_lists
        if in_import:
            self._waits = True  # the import may subscribe after the call: looked at again when it ends
        if state is Held.SUBSCRIBED or (state is Held.UNKNOWN and not in_import):
            assert self._desired is not None
            self.leaving.append(
                Unsubscribe(
                    mailbox=self.held.mailbox,
                    email=self.held.address,
                    list_id=wish.list_id,
                    mutation=self._desired,
                    was=state,
                    is_objection=wish.rule in OBJECTION_RULES,
                )
            )

    def _judge_joining(self, wish: ListWish, held: HeldList | None) -> None:
        if self._rests:
            self._waits = True
            return
        if self._mailbox_error is not None:
            return
        if wish.proof is None:
            self._list_error = NO_PROOF
            return
        if self._is_missing(wish):
            self._list_error = RECIPIENT_MISSING
            return
        resubscribe = held is not None and held.state is Held.UNSUBSCRIBED
        ours = held is not None and is_ours(held.cause)
        heard = door.objections(wish.list_id, self.held.events, None)
        if not door.may_subscribe(wish, heard, self._skew):
            self.barred = wish.rule
        elif resubscribe and not door.may_resubscribe(
            wish, door.objections(wish.list_id, (), held, is_ours=ours), self._skew
        ):
            self._list_error = HELD_UNSUBSCRIBED  # no log will tell the one who decides: this answer must
        else:
            self._joining.append((wish, resubscribe))

    def _is_missing(self, wish: ListWish) -> bool:
        """Whether she was a recipient, vanished, and has not agreed again since: then nobody brings her back."""
        missing_at = self.held.missing_at
        return missing_at is not None and (wish.proof is None or wish.proof.at - self._skew <= missing_at)

    @property
    def _in_import(self) -> bool:
        return bool(self.held.open_lists)

    @property
    def is_patch(self) -> bool:
        """Whether attributes differ that no import with a list will carry."""
        return (
            bool(self._changed)
            and self.held.recipient_id is not None
            and self._mailbox_error is None
            and not self._in_import
            and not self._joining
        )

    def patch(self) -> Patch:
        """The single call for the attributes."""
        assert self._desired is not None and self.held.recipient_id is not None
        return Patch(self.held.mailbox, self.held.recipient_id, self.held.address, self._desired, self._changed)

    def rows(self, *, singly: bool) -> Iterable[tuple[tuple[int, bool, tuple[str, ...]], OpenRow]]:
        """Rows for imports, by (list, resubscribe, columns). The first list of several carries the attributes.

        A row never has a column that is not meant to change: an empty cell would clear it.
        """
        if self.must_read or self._in_import:
            return
        values = {} if self.must_go_singly else self._changed
        answer = self._answer_by_row(singly=singly)
        for wish, resubscribe in sorted(self._joining, key=lambda found: (found[1], found[0].list_id)):
            yield (wish.list_id, resubscribe, tuple(sorted(values))), self._row(values, wish.claims, answer)
            values = {}
        if self.is_patch and not singly and not self.must_go_singly:
            yield (NO_LIST, False, tuple(sorted(values))), self._row(values, (), answer)

    def _row(self, values: dict[str, str | None], claims: tuple[str, ...], answer: Settled | None) -> OpenRow:
        assert self._desired is not None
        version = self._desired.version
        return OpenRow(self.held.mailbox, self.held.address, values, version, claims, answer, self.held.dirt)

    def _answer_by_row(self, *, singly: bool) -> Settled | None:
        """What the mutation is answered when the only row of this mailbox succeeds; None when more is to be done."""
        desired = self._desired
        rows = len(self._joining) + (self.is_patch and not singly)
        more = (
            self.must_go_singly or self.leaving or self._waits or self.barred or self._list_error or self._mailbox_error
        )
        if desired is None or rows != 1 or more or any(self._satisfied(desired)):
            return None
        return self._applied(desired)

    def _applied(self, desired: Mutation, error: str | None = None) -> Settled:
        return Settled(
            version=desired.version,
            desired_hash=desired.desired_hash,
            outcome=Outcome.QUARANTINED if error else Outcome.APPLIED,
            error=error,
            leader=desired.leader,
            claims=desired.claims,
            rejected_values=self.rejected,
        )

    @property
    def is_finished(self) -> bool:
        """Whether nothing is under way, to be done, or awaited for this mailbox."""
        return not (
            self.leaving
            or self.must_read
            or self._waits
            or self._in_import
            or self.barred
            or self.is_patch
            or self._joining
        )

    def settlement(self) -> Settlement:
        """The answer to the mutation, now that all is done that can be done."""
        desired = self._desired
        if desired is None:
            return Settlement(self.held.mailbox, self.held.dirt, self.held.settled, {})
        error = self._mailbox_error or self._list_error
        settled = self._applied(desired, error)
        return Settlement(self.held.mailbox, self.held.dirt, settled, dict(self._satisfied(desired)))

    def _satisfied(self, desired: Mutation) -> Iterable[tuple[int, tuple[str, ...]]]:
        for wish in desired.lists:
            held = self.held.lists.get(wish.list_id)
            if held is None:
                continue
            if wish.want is Want.SUBSCRIBED and held.state is Held.SUBSCRIBED and held.claims != wish.claims:
                yield wish.list_id, wish.claims
            if wish.want is Want.UNSUBSCRIBED and held.state is not Held.SUBSCRIBED and held.claims:
                yield wish.list_id, ()
