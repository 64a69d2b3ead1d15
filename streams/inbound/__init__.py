"""What Inxmail tells: its streams to facts, and facts to the CRM."""
