"""Repair: the sweeper."""
