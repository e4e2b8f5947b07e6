"""Real sequences as tasks, each with baselines to be measured against."""
