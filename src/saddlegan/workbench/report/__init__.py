"""Reports, explorers, pictures and exported samples of a run."""
