"""One small program a peer, run by the Python it is installed for; `contract.py` says how."""
