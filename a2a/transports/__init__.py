"""Transports: how whole messages travel between two processes, or within one."""
