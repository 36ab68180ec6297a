"""Door 2, `train`: move any PyTorch pair with better rules."""
