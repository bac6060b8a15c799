"""What a scheduler needs: jobs submitted, watched and stopped. Knows Slurm, and nothing of training."""
