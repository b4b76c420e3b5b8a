"""What every agent endpoint shares: protocol version, bearer token, bounded JSON, problem documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from pydantic import ValidationError

from parka.api.problems import describe, problem_response
from parka.api.throttles import count_guess, spend
from parka.core.addresses import client_address
from parka.core.errors import NotFound, Refused, TooLarge, Unauthorized, UpgradeRequired
from parka.experiments.lifecycle import Fence
from parka.fleet.models import Agent
from parka.fleet.services import authenticate
from parka.workflow.leasing import note_foreign_run
from parka_agent.protocol import CLAIM_HEADER, MESSAGE_BYTES, PROTOCOL_VERSION, VERSION_HEADER, Message, decode

REQUESTS_PER_MINUTE = 1200
VITAL_PER_MINUTE = 600

Args = ParamSpec("Args")
M = TypeVar("M", bound=Message)
View = Callable[Concatenate[HttpRequest, Agent, Args], HttpResponseBase]
AsyncView = Callable[Concatenate[HttpRequest, Agent, Args], Awaitable[HttpResponseBase]]


def public_endpoint(view: Callable[[HttpRequest], HttpResponseBase]) -> Callable[..., Any]:
    """A POST without an agent token: the registration."""

    @wraps(view)
    def endpoint(request: HttpRequest) -> HttpResponseBase:
        try:
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            check_version(request)
            return view(request)
        except Exception as error:
            return explain(error, request)

    return csrf_exempt(endpoint)


def agent_endpoint(*methods: str, vital: bool = False) -> Callable[[View[Args]], Callable[..., Any]]:
    """Give a view of ``(request, agent, …)`` its caller. ``vital`` calls have a bucket of their own, so that a final
    report never starves behind others."""

    def decorate(view: View[Args]) -> Callable[..., Any]:
        @wraps(view)
        def endpoint(request: HttpRequest, *args: Args.args, **kwargs: Args.kwargs) -> HttpResponseBase:
            try:
                if request.method not in methods:
                    return HttpResponseNotAllowed(methods)
                agent = admit(request, vital=vital)
                return _watched(agent, lambda: view(request, agent, *args, **kwargs), kwargs)
            except Exception as error:
                return explain(error, request)

        return csrf_exempt(endpoint)

    return decorate


def waiting_endpoint(view: AsyncView[Args]) -> Callable[..., Any]:
    """An async POST of ``(request, agent)`` that may wait."""

    @wraps(view)
    async def endpoint(request: HttpRequest, *args: Args.args, **kwargs: Args.kwargs) -> HttpResponseBase:
        try:
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            agent = await sync_to_async(admit)(request, vital=True)
            return await view(request, agent, *args, **kwargs)
        except Exception as error:
            return await sync_to_async(explain)(error, request)

    if not iscoroutinefunction(view):
        raise TypeError("a waiting endpoint is a coroutine function")
    return csrf_exempt(endpoint)


def admit(request: HttpRequest, *, vital: bool) -> Agent:
    """The agent that speaks. Raises UpgradeRequired, Unauthorized ``agent.token_invalid``, RateLimited."""
    check_version(request)
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("agent.token_invalid")
    try:
        agent = authenticate(token.strip())
    except Unauthorized:
        count_guess(client_address(request))
        raise
    if vital:
        spend(f"agent-vital:{agent.pk}", limit=VITAL_PER_MINUTE)
    else:
        spend(f"agent:{agent.pk}", limit=REQUESTS_PER_MINUTE)
    return agent


def check_version(request: HttpRequest) -> None:
    """Raises UpgradeRequired ``agent.protocol_version``."""
    if request.headers.get(VERSION_HEADER) != str(PROTOCOL_VERSION):
        raise UpgradeRequired("agent.protocol_version")


def explain(error: Exception, request: HttpRequest) -> HttpResponse:
    """The problem document of an error."""
    return problem_response(describe(error, request=request), request)


def read_body(request: HttpRequest, *, limit: int, code: str = "result.too_large") -> bytes:
    """The raw body. Raises TooLarge."""
    body = request.read(limit + 1)
    if len(body) > limit:
        raise TooLarge(code)
    return bytes(body)


def read_message(request: HttpRequest, kind: type[M]) -> M:
    """The JSON body as a message. Raises TooLarge ``request.too_large``, Refused ``request.invalid``."""
    return parse(kind, read_body(request, limit=MESSAGE_BYTES, code="request.too_large"), code="request.invalid")


def parse(kind: type[M], body: bytes, *, code: str) -> M:
    """Validated message. Raises Refused with ``code`` naming the first wrong field."""
    try:
        return decode(kind, body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refused(code, f"{where}: {first['msg']}") from None
    except (ValueError, RecursionError):
        raise Refused(code, "The body is not valid JSON with finite numbers.") from None


def fence_of(request: HttpRequest, agent: Agent, run: str, attempt: int, *, claim_id: str = "") -> Fence:
    """The execution that speaks: run and attempt from the address, claim from the message or the header."""
    return Fence(agent=agent, run=run, attempt=attempt, claim_id=claim_id or request.headers.get(CLAIM_HEADER, ""))


def reply(message: Message, *, status: int = 200) -> JsonResponse:
    """A message as JSON."""
    return JsonResponse(message.model_dump(mode="json"), status=status, headers={"Cache-Control": "no-store"})


def _watched(agent: Agent, act: Callable[[], HttpResponseBase], kwargs: Any) -> HttpResponseBase:
    try:
        return act()
    except NotFound as refusal:
        if refusal.code == "run.not_found":
            note_foreign_run(agent, str(kwargs.get("run", ""))[:40])
        raise
