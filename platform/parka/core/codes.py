"""Every stable error code of Parka, once, with the sentence that is used when the raiser has nothing more exact to say.

A code is ``area.reason``; it is never renamed. Codes of the engine and of sandboxed children are listed too, because they
are stored on rows and have a page under ``/problems/``.
"""

from __future__ import annotations

from parka.core.engine_codes import CHILD, COMMANDS, ENGINE, FORMATS

GENERAL = {
    "not_found": "There is no such object here.",
    "forbidden": "Your role does not allow this; ask an owner or admin of the team.",
    "unauthenticated": "Sign in, or send a valid API token as Authorization: Bearer pk_….",
    "method.not_allowed": "This address does not support that method.",
    "request.malformed": "The request cannot be read; check that the body is valid JSON.",
    "request.invalid": "Some fields are not valid; see the list of errors.",
    "request.media_type": "This address does not read that content type; send application/json.",
    "request.not_acceptable": "This address answers with application/json only.",
    "request.cursor": "This cursor is not valid; start from the first page.",
    "request.too_large": "The body is larger than this address accepts.",
    "request.precondition": "The object changed since you read it; read it again and repeat the change.",
    "request.csrf": "The form has expired; reload the page and try again.",
    "rate.limited": "Too many requests; wait and try again.",
    "server.error": "The server failed while answering; it was logged. Try again, then report the request id.",
    "server.busy": "The server is busy; try again in a few seconds.",
    "storage.full": "The server has no free disk space; nothing was lost. Try again when space has been made.",
}

FIELDS = {
    "field.required": "This field is required.",
    "field.invalid": "This value is not valid.",
    "field.unknown_object": "There is no such object in your team.",
    "field.blank": "This field may not be empty.",
    "field.null": "This field may not be null.",
    "field.too_long": "This value is too long.",
    "field.too_small": "This value is too small.",
    "field.too_large": "This value is too large.",
    "field.choice": "This is not one of the allowed choices.",
}

ACCOUNTS = {
    "team.required": "You belong to several teams; name one in the Parka-Team header.",
    "member.exists": "This person is already a member of the team.",
    "member.last_owner": "A team needs one owner: make somebody else an owner first.",
    "member.role": "You may only grant roles up to your own.",
    "token.invalid": "This API token is unknown or revoked; create a new one.",
    "token.expired": "This API token has expired; create a new one.",
    "token.scope": "The scope of this API token does not allow this; create one with a wider scope.",
    "token.scope_exceeds_role": "A token cannot have a wider scope than your role.",
    "token.lifetime": "A token lives between 1 and 365 days.",
    "link.invalid": "This sign-in link is unknown, used or expired; ask for a new one.",
    "auth.reauthenticate": "Confirm your password again before this change.",
    "quota.tokens": "The team has as many API tokens as it may have; revoke one first.",
}

REGISTRY = {
    "upload.offset": "The piece does not start where the upload ends; ask for the offset with HEAD and continue there.",
    "upload.locked": "Another request is writing to this upload; try again in a moment.",
    "upload.too_large": "The file is larger than announced or than the limit of 8 GiB.",
    "upload.chunk_too_large": "A piece may have at most 16 MiB.",
    "upload.checksum": "The bytes do not match their checksum; send them again.",
    "upload.unknown": "There is no such upload; start a new one.",
    "upload.expired": "The upload was not finished within 24 hours; start a new one.",
    "upload.incomplete": "The upload is not complete yet; send the remaining bytes first.",
    "upload.metadata": "The Upload-Metadata header cannot be read; send key and base64 value pairs.",
    "upload.length": "Upload-Length must be a whole number of bytes, at least 1.",
    "upload.protocol": "Send Tus-Resumable: 1.0.0.",
    "upload.role": "This upload has another role than the one asked for.",
    "upload.file_missing": "The form has no file in the field named file.",
    "upload.checksum_algorithm": "Only sha256 checksums are supported.",
    "quota.storage": "The team's storage is full; delete what you no longer need or ask for a larger quota.",
    "quota.uploads": "Too many uploads are open; finish or cancel one first.",
    "quota.runs": "Too many runs are queued; wait until some have finished.",
    "quota.experiments": "Too many experiments were started in the last hour; try again later.",
    "quota.agents": "The team has as many agents as it may have; revoke one first.",
    "model.name": "Give the model a name with at least one letter or digit.",
    "model.name_taken": "The team already has a model of that name; add a version to it or choose another name.",
    "model.not_ready": "This version is not ready: it is still being inspected or was rejected.",
    "model.archived": "This model is archived; restore it first.",
    "dataset.name": "Give the dataset a name with at least one letter or digit.",
    "dataset.not_ready": "This dataset is not ready: it is still being inspected or was rejected.",
    "artifact.missing": "The bytes of this artifact are no longer on the server; upload the file again.",
    "artifact.unknown": "There is no such artifact; build it yourself.",
    "artifact.in_use": "Something still refers to this artifact.",
    "intake.sandbox_too_weak": "The server has no sandbox strong enough to read uploads; set PARKA_INGEST_ALLOW_C to accept that.",
    "intake.failed": "The server could not inspect the file; try the upload again.",
    "url.invalid": "This download address is not valid or has expired.",
}

SCORECARDS = {
    "price.invalid": "A price must be a number of dollars per hour, zero or more.",
    "price.unknown": "There is no such price in the book.",
    "price.utilization": "Utilization must lie above 0 and at most 1.",
    "price.currency": "Prices are kept in US dollars.",
    "price.conflict": "Somebody else changed the prices at the same time; read them again and repeat the change.",
    "scorecard.not_ready": "This run has no scorecard yet.",
    "compare.too_few": "Choose at least one run.",
    "compare.too_many": "Choose at most 200 runs.",
    "compare.base": "The baseline must be one of the compared ones.",
}

FLEET = {
    "agent.protocol_version": "This server speaks another protocol version; update the agent.",
    "agent.registration_invalid": "This registration token is unknown or expired; create a new one on the Agents page.",
    "agent.registration_used": "This registration token was used already; create a new one on the Agents page.",
    "agent.token_invalid": "The agent's token is unknown, expired or revoked; register the agent again.",
    "agent.superseded": "A newer process of this agent is running; this one must stop.",
    "agent.sandbox_too_weak": "The agent's sandbox is weaker than this work requires.",
    "agent.name": "Give the agent a name with at least one letter or digit.",
    "agent.name_taken": "The team already has an agent of that name.",
    "agent.revoked": "This agent is revoked; register a new one.",
    "agent.not_active": "This agent has not registered yet, or is draining.",
}

RUNS = {
    "run.not_found": "There is no such run for this agent.",
    "experiment.no_agents": "Choose at least one agent.",
    "experiment.agent_twice": "An agent is listed twice.",
    "target.twice": "This KPI already has a target of that kind; keep one.",
    "budget.too_long": "The time budget may be at most 24 hours.",
    "run.no_agent": "No agent took the run in time; check that one is online.",
    "run.attempts_exhausted": "The run was lost three times; look at the agent's log.",
    "run.terminal": "The run has already ended.",
    "lease.stale": "Another attempt owns this run now; stop working on it.",
    "result.conflict": "Another result was already accepted for this.",
    "result.invalid": "The result is not plausible or not complete.",
    "result.too_large": "The result is larger than allowed.",
    "log.offset": "The log continues at another offset.",
    "log.full": "The log of a run may have at most 20 MiB.",
    "idempotency.mismatch": "This Idempotency-Key was used with another body.",
    "idempotency.in_flight": "A request with this Idempotency-Key is still being answered.",
    "idempotency.key": "An Idempotency-Key has 1 to 200 characters.",
}

CODES: dict[str, str] = {
    **GENERAL,
    **FIELDS,
    **ACCOUNTS,
    **REGISTRY,
    **SCORECARDS,
    **FLEET,
    **RUNS,
    **CHILD,
    **FORMATS,
    **ENGINE,
    **COMMANDS,
}


def sentence(code: str) -> str:
    """The default sentence of a code; empty for one that is not registered."""
    return CODES.get(code, "")
