"""A human study of a run's labels in a folder: drawn, planned, read and analysed without a server."""
