"""A stand-in for the Inxmail Professional REST API, over HTTP, with a control API beside it.

It shares no code with the client, so that a misreading of the contract cannot hide in both.
"""
