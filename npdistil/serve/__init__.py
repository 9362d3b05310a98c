"""A service over HTTP: `npdistil serve`, extra `serve`."""
