"""Names, places and mailboxes of sample people, drawn from word lists. Pure: the same seed draws the same."""

import random
import tomllib
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Final, TypeVar

import msgspec

DAY_ONE: Final = datetime(2018, 1, 1, tzinfo=UTC)
DAYS: Final = 2500
"""Nothing in a sample is later than the end of 2024: every proof lies in the past, whenever the sample is loaded."""

_SPOKEN: Final = str.maketrans({"ß": "ss", "ı": "i", " ": "-"})
_TRANSLITERATED: Final = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ı": "i", "ł": "l", "ø": "o", " ": "-", ".": "", "&": "und"}
)


class Words(msgspec.Struct, frozen=True):
    """The word lists that ship with this module."""

    female: tuple[str, ...]
    male: tuple[str, ...]
    surnames: tuple[str, ...]
    streets: tuple[str, ...]
    towns: tuple[str, ...]
    trades: tuple[str, ...]
    forms: tuple[str, ...]
    departments: tuple[str, ...]
    positions: tuple[str, ...]
    mail_domains: tuple[str, ...]
    topics: tuple[str, ...]


@cache
def words() -> Words:
    """The word lists, read once."""
    lists = tomllib.loads(files(__package__).joinpath("words.toml").read_text("utf-8"))
    return Words(**{name: tuple(word.replace("_", " ") for word in text.split()) for name, text in lists.items()})


@cache
def slug(word: str) -> str:
    """A word as it stands in an e-mail address: `Müller` → `mueller`."""
    plain = word.lower().translate(_TRANSLITERATED)
    return "".join(c for c in unicodedata.normalize("NFKD", plain) if c.isascii() and (c.isalnum() or c == "-"))


class Mailbox(msgspec.Struct, frozen=True):
    """A mailbox in its plain spelling, and what was answered from it for each (client, distribution).

    `shared`: several people of the sample use it. An answer is a kind of consent (None: no answer) and when.
    """

    email: str
    shared: bool = False
    answers: dict[tuple[str, str], tuple[str | None, datetime]] = msgspec.field(default_factory=dict)


class Person(msgspec.Struct, frozen=True):
    """How a person is addressed."""

    salutation: str
    title: str | None
    first: str
    last: str


T = TypeVar("T")


class Names:
    """Draws from a seed. random.choice and randint are several times slower than one random()."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._mailboxes: set[str] = set()
        self._domains: set[str] = set()
        self.words = words()

    def chance(self, share: float) -> bool:
        """True in `share` of all cases."""
        return self._random.random() < share

    def fraction(self) -> float:
        """A number from 0 up to 1."""
        return self._random.random()

    def one(self, of: Sequence[T]) -> T:
        """One of these."""
        return of[int(self._random.random() * len(of))]

    def below(self, bound: int) -> int:
        """A whole number from 0 up to `bound`."""
        return int(self._random.random() * bound)

    def bits(self, count: int) -> int:
        """So many random bits."""
        return self._random.getrandbits(count)

    def gguid(self) -> str:
        """A key of the CRM."""
        return f"{self._random.getrandbits(128):032X}"

    def instant(self) -> datetime:
        """Some time in the past, to the second."""
        return DAY_ONE + timedelta(seconds=self.below(DAYS * 86_400))

    def person(self) -> Person:
        """Somebody."""
        female = self.chance(0.5)
        title = self.one(("Dr.", "Dr.", "Dr.", "Prof. Dr.")) if self.chance(0.06) else None
        surname = self.one(self.words.surnames)
        if self.chance(0.03):
            surname = f"{surname}-{self.one(self.words.surnames)}"
        first = self.one(self.words.female if female else self.words.male)
        return Person("Frau" if female else "Herr", title, first, surname)

    def place(self) -> tuple[str, str, str]:
        """Street, post code and town."""
        code, _, town = self.one(self.words.towns).partition("|")
        return (f"{self.one(self.words.streets)} {1 + self.below(140)}", code, town)

    def domain(self, surname: str, trade: str) -> str:
        """A company's own domain, used by nobody else."""
        spoken = self.chance(0.15)  # an internationalised name; without letters that capitals turn into others
        parts = [w.lower().translate(_SPOKEN) if spoken else slug(w) for w in (surname, trade)]
        domain = stem = "-".join(parts)
        while domain in self._domains:
            domain = f"{stem}-{2 + self.below(900)}"
        self._domains.add(domain)
        return f"{domain}.example"

    def local(self, person: Person) -> str:
        """What stands before the @."""
        first, last = slug(person.first), slug(person.last)
        style = self._random.random()
        if style < 0.6:
            return f"{first}.{last}"
        if style < 0.75:
            return f"{first[0]}.{last}"
        if style < 0.85:
            return f"{first}{last}"
        if style < 0.95:
            return f"{last}.{first}"
        return f"{first}.{last}+{self.one(('news', 'crm', 'angebote'))}"

    def mailbox(self, local: str, domain: str | None = None, *, shared: bool = False) -> Mailbox:
        """A mailbox that was not drawn before; without a domain, at one that serves everybody."""
        domain = domain or self.one(self.words.mail_domains)
        email = f"{local}@{domain}"
        while email in self._mailboxes:
            name, plus, tag = local.partition("+")
            email = f"{name}{1 + self.below(9_999)}{plus}{tag}@{domain}"
        self._mailboxes.add(email)
        return Mailbox(email, shared)

    def spelled(self, email: str) -> str:
        """The same mailbox as people write it: capitals, blanks, the domain in its ASCII form."""
        if not email.isascii() and self.chance(0.5):
            local, _, domain = email.partition("@")
            email = f"{local}@{domain.encode('idna').decode()}"
        style = self._random.random()
        if style < 0.84:
            return email
        if style < 0.92:
            return email.title()
        if style < 0.96:
            return email.upper()
        return self.one((" {}", "{} ", "  {} ", "{}\t")).format(email)
