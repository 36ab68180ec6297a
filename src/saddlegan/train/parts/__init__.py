"""What rules and loops are made of: penalties, noise, averages, latents, replicas, process groups."""
