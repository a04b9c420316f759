"""What both methods of `train` share: examples, history, the files that are written."""
