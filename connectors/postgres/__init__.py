"""The mechanics of PostgreSQL that every schema of ours needs: migrations and the meaning of its errors."""
