"""The hardware agent: claims runs over HTTPS, runs the engine's search on this host, reports trial by trial."""
