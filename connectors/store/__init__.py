"""The schemas `sync` (derived, may be dropped and rebuilt) and `fence` (leases and epochs, never dropped)."""
