"""Mutations to Inxmail calls: the client worker."""
