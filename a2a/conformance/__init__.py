"""The conformance suite: what is tried on any implementation of the protocol, in any language.

It speaks raw frames of its own making (`wire`, `socket`) and shares nothing with the implementation in this package. A
case is about one requirement, which is a numbered paragraph of the specification.
"""
