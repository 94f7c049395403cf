"""The HTTP API of the serve worker. `app.make_app` makes it; `server` binds it to an address.

Each route is declared once, as a `Route` in the module of its resource. Validation, rights and the OpenAPI document come from there.
"""
