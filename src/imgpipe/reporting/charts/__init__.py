"""Numbers and images → figures that are read at a glance, one module for each topic."""
