"""What is said to people at a terminal or reading a log."""
