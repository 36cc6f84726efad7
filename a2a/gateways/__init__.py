"""Gateways: other protocols reach agents here, and agents here reach remote ones."""

DEFAULT_PORT = 7480
