"""ProCoGAN: images at several resolutions, one exact solve a stage."""
