"""Ledger stores: where the coordinator's records are kept. `base` has the contract, the others implement it."""
