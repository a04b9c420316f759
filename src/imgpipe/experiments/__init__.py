"""Several runs: provenance, comparison, leaderboard, recipes and studies."""
