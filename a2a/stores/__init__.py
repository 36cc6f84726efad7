"""Ledger stores: where the coordinator's records are kept. `base` holds the contract, each other module one medium."""
