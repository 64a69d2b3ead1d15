"""`embedded=inx:recipient&recipientAttributes=a,b`: the person beside an event, as long as there is one."""

from connectors.inxmail_simulator.call import Call
from connectors.inxmail_simulator.problems import invalid_parameter
from connectors.inxmail_simulator.rest.recipients import chosen_attributes
from connectors.inxmail_simulator.state import Account


class EmbeddedRecipient:
    """What a request wants embedded.  Raises: Problem, when that is something else or names an unknown attribute."""

    def __init__(self, call: Call, account: Account) -> None:
        embedded = call.names("embedded") or ()
        if any(name != "inx:recipient" for name in embedded):
            raise invalid_parameter("embedded", "only inx:recipient can be embedded")
        chosen = chosen_attributes(account, "recipientAttributes", call.names("recipientAttributes") or ())
        self._attributes = [(known.name, known.position) for known in chosen]
        self._recipients = account.recipients if embedded else {}
        self._base = f"{call.base_url}/recipients/"

    def __call__(self, recipient_id: int | None) -> dict[str, object]:
        """The member `_embedded`; nothing when nobody is asked for, or the recipient is deleted or not to be told."""
        recipient = self._recipients.get(recipient_id or 0)
        if recipient is None:
            return {}
        shown = {
            "id": recipient.id,
            "email": recipient.email,
            "attributes": {name: recipient.value(position) for name, position in self._attributes},
            "_links": {"self": {"href": f"{self._base}{recipient.id}"}},
        }
        return {"_embedded": {"inx:recipient": shown}}
