"""Run folders: what a command writes and every other command reads."""
