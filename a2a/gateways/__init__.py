"""How agents here are reached by other protocols than this one."""

DEFAULT_PORT = 7480
