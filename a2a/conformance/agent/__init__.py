"""Cases for an agent. The suite plays the coordinator."""
