"""Cases for a client. The suite plays the coordinator."""
