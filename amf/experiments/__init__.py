"""The paper's experiments as thin compositions of the training parts."""
