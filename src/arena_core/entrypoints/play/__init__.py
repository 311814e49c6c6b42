"""Playing a deployed agent in an environment, through its HTTP endpoint."""
