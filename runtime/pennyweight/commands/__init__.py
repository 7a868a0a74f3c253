"""The device's verbs, one module each."""
