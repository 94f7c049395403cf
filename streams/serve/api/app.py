"""Makes the application: runs each request through the same steps, and turns whatever goes wrong into a problem document.

A request passes: the site that it comes from, its token and its rate, the media type that it accepts, its path, its parameters,
its body, its handler. `server` binds the application to an address, and answers what is no HTTP.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import monotonic, perf_counter
from typing import Any

import msgspec
from aiohttp import hdrs, web

from streams.serve.api import (
    browsing,
    explaining,
    interactions,
    items,
    letters,
    model,
    overview,
    privacy,
    status,
    stream,
    taste,
    users,
)
from streams.serve.api.access import ANYBODY, Access, Caller
from streams.serve.api.access_log import AccessLog, open_log
from streams.serve.api.context import Api, Call, Intake, Limits
from streams.serve.api.openapi import document
from streams.serve.api.parameters import NoQuery
from streams.serve.api.problems import CONTENT_TYPE, Problem
from streams.serve.api.routes import JSON, Route, accepts, body_value, path_values, query_values, read_body
from streams.serve.api.tokens import Tokens
from streams.serve.interface import Serving
from streams.serve.page.static import Page, has_loopback, read_files
from streams.settings import Settings
from streams.text import visible

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_CONTINUE = "100-continue"
PAGE = "/page"  # the route of all files of the page in the access log
_ROUTE, _CALLER = web.RequestKey("route", str), web.RequestKey("caller", str)
_EXPECTED = {404: "unknown_route", 405: "method_not_allowed", 413: "body_too_large", 417: "expectation_failed"}


async def openapi(call: Call[NoQuery, None]) -> web.StreamResponse:
    """The OpenAPI document."""
    del call
    return web.Response(body=OPENAPI, content_type=JSON)


ROUTES: Sequence[Route] = [
    *users.ROUTES,
    *explaining.ROUTES,
    *browsing.ROUTES,
    *items.ROUTES,
    *taste.ROUTES,
    *interactions.ROUTES,
    *privacy.ROUTES,
    *stream.ROUTES,
    *overview.ROUTES,
    *letters.ROUTES,
    *model.ROUTES,
    *status.ROUTES,
    Route(
        method="GET",
        path="/openapi.json",
        name="openapi",
        summary="This document.",
        scope=None,
        handler=openapi,
        answer=dict[str, Any],
    ),
]
"""All routes."""
OPENAPI = msgspec.json.encode(document(ROUTES))


def make_app(serving: Serving, settings: Settings) -> web.Application:
    """Make the application.

    Args:
        serving: what it answers from.
        settings: who may ask, and how much.

    Raises:
        StartupError: everybody could ask, or the tokens cannot be read.
    """
    access = Access(
        Tokens(settings.tokens_file),
        host=settings.serve_host,
        origins=settings.serve_origins,
        rate=settings.serve_rate,
        clock=monotonic,
    )
    api = Api(
        serving,
        access,
        AccessLog(open_log(), ids=settings.serve_log_ids, worker=settings.worker_name("serve")),
        intake=Intake(settings.max_future, settings.earliest),
        limits=Limits.of(settings),
    )
    return app_of(api, local_pictures=has_loopback(settings.fetch_allow_networks))


def app_of(api: Api, *, local_pictures: bool = False) -> web.Application:
    """The application that answers from these parts. `local_pictures`: as `streams.serve.page.static.policy` describes it."""
    page = Page(read_files(), local_pictures=local_pictures)
    app = web.Application(middlewares=[web.middleware(partial(_answered, api, page))])
    methods: dict[str, list[str]] = {}
    for path in page.paths:
        for method in (hdrs.METH_GET, hdrs.METH_HEAD):
            app.router.add_route(method, path, partial(_file, page, path), expect_handler=_expected)
        methods[path] = [hdrs.METH_GET, hdrs.METH_HEAD]
    for route in ROUTES:
        path = route.path
        for name in route.path_names:
            path = path.replace(f"{{{name}}}", f"{{{name}:[^/]+}}")
        handler = partial(_run, api, route)
        app.router.add_route(route.method, path, handler, expect_handler=_expected)
        methods.setdefault(path, []).append(route.method)
        if route.method == hdrs.METH_GET:
            app.router.add_route(hdrs.METH_HEAD, path, handler, expect_handler=_expected)
            methods[path].append(hdrs.METH_HEAD)
    for path, allowed in methods.items():
        options = partial(_options, api, [*allowed, hdrs.METH_OPTIONS])
        app.router.add_route(hdrs.METH_OPTIONS, path, options, expect_handler=_expected)
    app.on_shutdown.append(partial(_shut_down, api))
    return app


async def _shut_down(api: Api, app: web.Application) -> None:
    del app
    api.streams.close_all()
    api.live.close_all()
    await api.close()


async def _file(page: Page, path: str, request: web.Request) -> web.StreamResponse:
    """A file of the web page."""
    request[_ROUTE] = PAGE
    return page.answer(path, request)


async def _run(api: Api, route: Route, request: web.Request) -> web.StreamResponse:
    """Validate a request by its route, and answer it. Raises Problem."""
    request[_ROUTE] = route.path
    caller = Caller(ANYBODY, frozenset())
    if route.scope is not None:
        caller = api.access.caller(request, route.scope)
        request[_CALLER] = caller.name
    if not accepts(request.headers.get(hdrs.ACCEPT), route.media):
        raise Problem("not_acceptable", f"the answer is {route.media}")
    path = path_values(route, request.rel_url.raw_path)
    query = query_values(route.query, request.rel_url.raw_query_string)
    if route.body is None or route.reads == "itself":
        return await route.handler(Call(api, request, path, query, None, caller.scopes, caller.name))
    if request.content_type != JSON:
        raise Problem("unsupported_media_type", f"{visible(request.content_type)}: expected {JSON}")
    with api.room(min(request.content_length or route.body_bytes, route.body_bytes)):
        content = await read_body(request, route.body_bytes, api.limits.body_seconds)
        body = body_value(route.body, content) if route.reads == "json" else content
        return await route.handler(Call(api, request, path, query, body, caller.scopes, caller.name))


async def _options(api: Api, allowed: list[str], request: web.Request) -> web.StreamResponse:
    """Which methods there are; for a page of another site, whether it may use them."""
    headers = {hdrs.ALLOW: ", ".join(allowed)}
    if api.access.allowed_origin(request) is not None:
        headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = ", ".join(allowed)
        headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = "Authorization, Content-Type, If-None-Match"
        headers[hdrs.ACCESS_CONTROL_MAX_AGE] = "600"
    return web.Response(status=204, headers=headers)


async def _expected(request: web.Request) -> None:
    """Answer `Expect: 100-continue`. Another expectation is refused by `_answered`, which all requests pass."""
    if _expectation(request) == _CONTINUE:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # aiohttp takes it for the beginning of the response otherwise


def _expectation(request: web.Request) -> str:
    return request.headers.get(hdrs.EXPECT, _CONTINUE).lower()


def _check_expectation(request: web.Request) -> None:
    """Raises Problem if a request expects something unknown."""
    if _expectation(request) != _CONTINUE:
        raise Problem("expectation_failed", visible(_expectation(request)[:100]))


async def _answered(api: Api, page: Page, request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a request, whatever happens, and log it."""
    began = perf_counter()
    try:
        if request.path not in page.paths:  # links of other sites lead to the page
            api.access.check_site(request)
        _check_expectation(request)
        response = await handler(request)
    except Problem as error:
        response = problem_response(error)
    except web.HTTPException as error:
        response = problem_response(_of_aiohttp(request, error))
    except ConnectionError:
        raise
    except Exception:
        logger.exception("a request to %s failed", request.get(_ROUTE, "-"))
        response = problem_response(Problem("internal_error", "the log of the worker has the cause"))
    if not response.prepared:
        _add_headers(api, request, response)
    size = response.content_length or 0 if isinstance(response, web.Response) else response.body_length
    api.log.add(
        request,
        route=request.get(_ROUTE, "-"),
        caller=request.get(_CALLER, ANYBODY),
        status=response.status,
        size=size,
        seconds=perf_counter() - began,
    )
    return response


def problem_response(error: Problem) -> web.Response:
    """A problem as a response."""
    response = web.Response(
        body=error.document(), status=error.status, content_type=CONTENT_TYPE, headers=error.headers
    )
    if error.headers.get(hdrs.CONNECTION) == "close":
        response.force_close()
    return response


def _of_aiohttp(request: web.Request, error: web.HTTPException) -> Problem:
    """The problem that an exception of aiohttp stands for."""
    reason = _EXPECTED.get(error.status, "internal_error" if error.status >= 500 else "malformed_request")
    headers = {name: value for name, value in error.headers.items() if name == hdrs.ALLOW}
    what = f"{request.method} {visible(request.path)[:200]}"
    return Problem(reason, what, headers=headers)


def _add_headers(api: Api, request: web.Request, response: web.StreamResponse) -> None:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    if (origin := api.access.allowed_origin(request)) is not None:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = "ETag, Location, Retry-After"
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    response.headers.setdefault(hdrs.VARY, "Authorization, Origin")
