"""The commands `tastestream token`: who may ask the HTTP API."""
