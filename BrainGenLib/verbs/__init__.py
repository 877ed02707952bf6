"""One module for each verb of a request: what the engine does when it is asked."""
