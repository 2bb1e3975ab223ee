"""Labels compared with the truth: evaluation, judges where no truth is known, and other methods on the same units."""
