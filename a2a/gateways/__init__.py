"""How agents here are reached by other protocols than this one, and agents there from here."""

DEFAULT_PORT = 7480
