"""The verbs of the `lrm` command that take plain flags."""
