"""How agents here are reached by other protocols than this one."""
