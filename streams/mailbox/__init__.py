"""The law of the mailbox: which claims there are, who leads, what may be subscribed, what should be. All pure."""
