"""The Inxmail Professional REST API: client, paging, pacing, imports."""
