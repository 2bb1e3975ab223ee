"""What tests of several files use: finished runs, made-up results, a server, composed command lines."""
