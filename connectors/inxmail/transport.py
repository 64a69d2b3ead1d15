"""Requests to one Inxmail client over HTTP: authenticated, paced, with a deadline, their failures given a meaning.

Nothing is repeated here. What goes wrong leaves as a `PipelineError`.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Final, NamedTuple
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from connectors.inxmail.failures import failure_in
from connectors.inxmail.pace import Pace, Turn, Urgency
from connectors.inxmail.settings import InxmailSettings
from schemas.errors import AnswerLost, MalformedInput, Unavailable

ACCEPT: Final = "application/hal+json,application/problem+json,application/json"
Query = Mapping[str, str]


class Body(NamedTuple):
    """What is sent."""

    data: bytes
    content_type: str


Prepare = Callable[[], Awaitable[Body]]


class Transport:
    """`seconds_allowed` gives the most seconds that a request starting now may take; it raises when none may start.

    One session, no cookies, no redirects. Every method raises PipelineError as `failures` says.
    """

    def __init__(self, settings: InxmailSettings, pace: Pace, seconds_allowed: Callable[[], float]) -> None:
        self._base = settings.base_url.rstrip("/")
        self._origin = URL(self._base).origin()
        authorization = aiohttp.encode_basic_auth(settings.user, settings.password.get_secret_value())
        self._headers = {"Accept": ACCEPT, "Authorization": authorization}
        self._limit = settings.max_in_flight
        self.pace = pace
        self._seconds_allowed = seconds_allowed
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Transport":
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=self._limit),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def url(self, path: str, query: Query | None = None) -> str:
        """The address of `path` below the base URL. Commas stay; everything else in the query is encoded."""
        address = f"{self._base}/{path.lstrip('/')}"
        return f"{address}?{urlencode(query, safe=',:', quote_via=quote)}" if query else address

    async def ask(
        self,
        method: str,
        url: str,
        body: Body | Prepare | None = None,
        *,
        repeatable: bool | None = None,
        urgency: Urgency = Urgency.NORMAL,
    ) -> bytes:
        """The body of a successful answer to a request for `url` (made by `url`, or a link of the far side's).

        `repeatable`: whether sending it twice does no harm; by default true for GET alone. A connection that breaks
        under a request that is not repeatable is AnswerLost. A body that is still to be prepared is asked for when it
        is this request's turn, directly before it is sent; what that raises, leaves, and nothing is sent.
        """
        assert self._session is not None, "use as a context manager"
        address = self._trusted(url)
        safe = method == "GET" if repeatable is None else repeatable
        async with self.pace.turn(urgency) as turn:
            sent = await body() if callable(body) else body
            headers = {"Content-Type": sent.content_type} if sent else None
            timeout = aiohttp.ClientTimeout(total=self._seconds_allowed())
            try:
                async with self._session.request(
                    method,
                    address,
                    data=sent.data if sent else None,
                    headers=headers,
                    timeout=timeout,
                    allow_redirects=False,
                ) as response:
                    _note_rate(turn, response.headers)
                    content = await response.read()
                    status = response.status
                    retry_after = retry_after_seconds(response.headers, datetime.now(UTC))
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise _broken(error, safe) from error
        failure = failure_in(status, content, repeatable=safe, retry_after_seconds=retry_after)
        if failure is None:
            return content
        if status == 429 and isinstance(failure, Unavailable):
            self.pace.refused(failure)
        raise failure

    def _trusted(self, url: str) -> URL:
        """Links are followed as they are given, but the credentials go to the configured server alone."""
        address = URL(url, encoded=True)
        if not address.is_absolute():
            address = URL(f"{self._base}/", encoded=True).join(address)
        if address.origin() != self._origin:
            raise MalformedInput("a link of Inxmail's leads to another server than base_url; it was not followed")
        return address


def _note_rate(turn: Turn, headers: Mapping[str, str]) -> None:
    limit, remaining, reset = (_seconds(headers.get(f"X-RateLimit-{name}")) for name in ("Limit", "Remaining", "Reset"))
    if limit is not None and remaining is not None and reset is not None:
        turn.heard(int(limit), int(remaining), reset)


def _broken(error: Exception, safe: bool) -> Unavailable | AnswerLost:
    """What a broken connection means: was the request on its way?"""
    name = type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Unavailable(f"Inxmail cannot be reached ({name}); nothing was sent")
    if safe:
        return Unavailable(f"Inxmail did not answer ({name})")
    return AnswerLost(f"Inxmail did not answer ({name}): it may have been carried out")


def retry_after_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that `Retry-After` asks for, given as such or as a date; None when it is absent or neither.

    A date is compared with the far side's own clock, its `Date`, where it shows one.
    """
    text = headers.get("Retry-After")
    if (seconds := _seconds(text)) is not None:
        return seconds
    until = _moment(text)
    return None if until is None else max(0.0, (until - (_moment(headers.get("Date")) or now)).total_seconds())


def _seconds(text: str | None) -> float | None:
    """A count in a header; None when it is absent or something else, such as a date."""
    try:
        count = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return count if math.isfinite(count) and count >= 0 else None


def _moment(text: str | None) -> datetime | None:
    """A date in a header."""
    try:
        found = parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    return found if found is None or found.tzinfo else found.replace(tzinfo=UTC)
