"""Cases for a coordinator. The suite plays agents and clients; each module has the cases of some sections."""
