"""Data by name, from files and from folders of images."""
