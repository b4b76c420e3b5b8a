"""Log, builds, trial stages and the result of a run."""

from __future__ import annotations

import json

from django.http import HttpRequest, HttpResponse, JsonResponse

from optimizer.specs import Stage
from parka.api.agent.endpoint import agent_endpoint, fence_of, parse, read_body
from parka.api.problems import describe, problem_response
from parka.core.errors import NotFound, Refused
from parka.experiments.records import LogOffset
from parka.fleet.models import Agent
from parka.workflow.reporting import held_run, take_log, take_result, take_stage
from parka_agent.protocol import LOG_PIECE_BYTES, REPORT_BYTES, RESULT_BYTES, RunReport, TrialReport, body_sha256

OFFSET_HEADER = "Parka-Offset"


@agent_endpoint("PUT")
def log(request: HttpRequest, agent: Agent, *, run: str, attempt: int) -> HttpResponse:
    """Append at ``?offset=``; 409 ``log.offset`` says in ``Parka-Offset`` where the log ends."""
    offset = request.GET.get("offset", "")
    if not offset.isdecimal() or len(offset) > 12:
        raise Refused("request.invalid", "offset must be a whole number of bytes.")
    piece = read_body(request, limit=LOG_PIECE_BYTES, code="request.too_large")
    try:
        take_log(fence_of(request, agent, run, attempt), offset=int(offset), piece=piece)
    except LogOffset as refusal:
        answer = problem_response(describe(refusal, request=request), request)
        answer.headers[OFFSET_HEADER] = str(refusal.offset)
        return answer
    return HttpResponse(status=204)


@agent_endpoint("GET", "POST")
def build(request: HttpRequest, agent: Agent, *, run: str, attempt: int, key: str) -> HttpResponse:
    """A build made elsewhere; none are yet, so the agent builds it itself."""
    held_run(fence_of(request, agent, run, attempt))
    raise NotFound("artifact.unknown")


@agent_endpoint("PUT", vital=True)
def stage(request: HttpRequest, agent: Agent, *, run: str, attempt: int, trial: int, name: str) -> JsonResponse:
    """Accept one stage report; the same bytes again are fine."""
    body = read_body(request, limit=REPORT_BYTES)
    message = parse(TrialReport, body, code="result.invalid")
    if name not in set(Stage):
        raise Refused("result.invalid", f"There is no stage named {name[:20]}.")
    fence = fence_of(request, agent, run, attempt, claim_id=message.claim_id)
    fresh = take_stage(fence, message, trial=trial, stage=Stage(name), body_sha256=body_sha256(body))
    return JsonResponse({"accepted": True, "repeated": not fresh})


@agent_endpoint("POST", vital=True)
def result(request: HttpRequest, agent: Agent, *, run: str, attempt: int) -> JsonResponse:
    """Accept the end of an attempt; the same bytes again are fine."""
    body = read_body(request, limit=RESULT_BYTES)
    message = parse(RunReport, body, code="result.invalid")
    fence = fence_of(request, agent, run, attempt, claim_id=message.claim_id)
    state = take_result(fence, message, body=json.loads(body), body_sha256=body_sha256(body))
    return JsonResponse({"accepted": True, "state": state})
