"""`lmtp` and `smtp`: mail to a server, each recipient once; the settings are in `handle/kinds`."""
