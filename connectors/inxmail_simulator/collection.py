"""Collections: keyset pages in ascending id, `next` while there is more, `inx:upcoming` on the last page."""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import NamedTuple, TypeVar

from connectors.inxmail_simulator.call import Answer, Call
from connectors.inxmail_simulator.options import Behaviour
from connectors.inxmail_simulator.problems import invalid_parameter

T = TypeVar("T")

CURIES = [{"href": "https://apidocs.inxmail.com/xpro/rest/v1/relations/{rel}", "name": "inx", "templated": True}]


class Window(NamedTuple):
    """Which page is asked for."""

    after: int
    size: int


def window(call: Call, behaviour: Behaviour) -> Window:
    """Raises: Problem, when `afterId` or `pageSize` is no number, or the page too large and not to be clamped."""
    size = call.number("pageSize")
    if size is None:
        size = behaviour.page_size_default
    elif size > behaviour.page_size_maximum:
        if behaviour.page_size_over_maximum == "reject":
            raise invalid_parameter("pageSize", f"must be at most {behaviour.page_size_maximum}")
        size = behaviour.page_size_maximum
    if size < 1:
        raise invalid_parameter("pageSize", "must be at least 1")
    return Window(call.number("afterId") or 0, size)


def page(
    call: Call,
    behaviour: Behaviour,
    relation: str,
    matches: Callable[[int], Iterable[T]],
    id_of: Callable[[T], int],
    show: Callable[[T], Mapping[str, object]],
    highest: int,
) -> Answer:
    """One page of what `matches(after)` yields in ascending id.

    `highest` is the highest id that exists, matching or not: the upcoming link starts there, so that an old object
    which matches only later does not turn up as a new one.
    """
    after, size = window(call, behaviour)
    found = list(islice(matches(after), size + 1))
    more, found = len(found) > size, found[:size]
    asked = call.number("pageSize")
    links: dict[str, object] = {"self": {"href": call.href()}, "first": {"href": call.href(afterId=None)}}
    if more:
        links["next"] = {"href": call.href(afterId=id_of(found[-1]), pageSize=size)}
    else:
        links["inx:upcoming"] = {"href": call.href(afterId=max(highest, after), pageSize=asked)}
    links["curies"] = CURIES
    body: dict[str, object] = {}
    if found or behaviour.embedded_when_empty:
        body["_embedded"] = {f"inx:{relation}": [show(item) for item in found]}
    body["_links"] = links
    return Answer(body=body)
