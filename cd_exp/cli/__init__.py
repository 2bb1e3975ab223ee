"""What is typed, done: the entry with its one-line errors, and what a command line asks for."""
