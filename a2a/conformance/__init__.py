"""The conformance suite: cases for any implementation of the protocol, in any language.

It makes its raw frames itself (`wire`, `socket`) and shares nothing with the implementation in this package. A case
is about one requirement, which is a numbered paragraph of the specification.
"""
