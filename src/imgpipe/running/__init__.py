"""How a stage runs: its entry in dvc.yaml, checks before and after, jobs of SLURM."""
