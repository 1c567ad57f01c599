"""What a handler shows to a server, and what it trusts: files of secrets, and certificates."""
