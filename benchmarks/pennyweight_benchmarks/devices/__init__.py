"""Device verbs on other machines: ``--on pi@host`` brings bundle, runtime and engine there, and the result back."""
