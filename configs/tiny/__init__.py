"""Methods on the embedded tiny LRM."""
