"""The desk: agents that answer questions over a folder of documents, each with a method of its own."""

from __future__ import annotations
