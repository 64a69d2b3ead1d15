"""The CRM's database: its schema, its roles, what is captured from it, sample data and what is written back."""
