"""Resumable uploads through the ASGI application, with a real database and real files."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import hashlib
import random
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application
from django.db.models.functions import Now

from parka.accounts.access import Access
from parka.accounts.models import Team
from parka.accounts.services import create_token
from parka.api.body_limit import BodyLimit
from parka.core.blobs import BlobStore
from parka.core.errors import Gone, NotFound
from parka.registry import spool
from parka.registry.models import Artifact, ArtifactRole, Upload, UploadState
from parka.registry.owners import Fence
from parka.registry.uploads import create_upload, purge_expired_uploads, upload_of

pytestmark = pytest.mark.django_db(transaction=True)
CONTENT = random.Random(7).randbytes(300_000)
TUS = {"Tus-Resumable": "1.0.0"}
PIECE = {**TUS, "Content-Type": "application/offset+octet-stream"}
BASE = "http://testserver"

Client = httpx.AsyncClient


def metadata(**values: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


def client_for(access: Access) -> Client:
    _, plain = create_token(access, name="tus", scope=access.widest_scope)
    transport = httpx.ASGITransport(app=BodyLimit(get_asgi_application()))
    return Client(transport=transport, base_url=BASE, headers={"Authorization": f"Bearer {plain}"})


@pytest.fixture
async def bob_http(bob_access: Access) -> AsyncIterator[Client]:
    async with await sync_to_async(client_for)(bob_access) as client:
        yield client


@pytest.fixture
async def charlie_http(charlie_access: Access) -> AsyncIterator[Client]:
    async with await sync_to_async(client_for)(charlie_access) as client:
        yield client


async def opened(http: Client, *, size: int = len(CONTENT), **more: str) -> str:
    """Path of a new upload."""
    fields = metadata(filename="tiny.onnx", role="model", **more)
    response = await http.post("/api/v1/uploads", headers={**TUS, "Upload-Length": str(size), "Upload-Metadata": fields})
    assert response.status_code == 201, response.text
    return str(response.headers["Location"])


async def send(http: Client, path: str, piece: bytes, *, offset: int, **headers: str) -> httpx.Response:
    return await http.patch(path, content=piece, headers={**PIECE, "Upload-Offset": str(offset), **headers})


async def offset_of(http: Client, path: str) -> int:
    return int((await http.head(path, headers=TUS)).headers["Upload-Offset"])


async def stored(path: str) -> Artifact:
    rows = Artifact.objects.filter(uploads__public_id=path.rsplit("/", 1)[-1])
    return await rows.aget()


async def test_pieces_make_the_exact_file(bob_http: Client) -> None:
    path = await opened(bob_http, sha256=hashlib.sha256(CONTENT).hexdigest())
    for start in range(0, len(CONTENT), 100_000):
        response = await send(bob_http, path, CONTENT[start : start + 100_000], offset=start)
        assert response.status_code == 204, response.text
    artifact = await stored(path)
    blob = BlobStore().path(artifact.sha256)
    assert blob.read_bytes() == CONTENT
    assert blob.stat().st_mode & 0o777 == 0o444
    assert blob.stat().st_nlink == 1
    assert response.headers["Parka-Artifact"] == artifact.public_id
    assert not list(spool.spool_root().iterdir())


async def test_a_wrong_offset_changes_nothing(bob_http: Client) -> None:
    path = await opened(bob_http)
    await send(bob_http, path, CONTENT[:1000], offset=0)
    for wrong in (0, 500, 2000):
        refused = await send(bob_http, path, b"x" * 100, offset=wrong)
        assert (refused.status_code, refused.json()["code"]) == (409, "upload.offset")
    assert await offset_of(bob_http, path) == 1000


async def test_of_two_parallel_pieces_one_wins(bob_http: Client) -> None:
    path = await opened(bob_http)
    pieces = [b"a" * 200_000, b"b" * 200_000]
    answers = await asyncio.gather(*(send(bob_http, path, piece, offset=0) for piece in pieces))
    assert sorted(answer.status_code for answer in answers) in ([204, 409], [204, 423])
    winner = pieces[[answer.status_code for answer in answers].index(204)]
    part = spool.part_path(path.rsplit("/", 1)[-1])
    assert part.read_bytes() == winner


async def test_a_second_writer_is_told_that_the_upload_is_locked(bob_http: Client) -> None:
    path = await opened(bob_http)
    with (spool.spool_root() / f"{path.rsplit('/', 1)[-1]}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = await send(bob_http, path, b"x", offset=0)
    assert (refused.status_code, refused.json()["code"]) == (423, "upload.locked")
    assert (await send(bob_http, path, CONTENT, offset=0)).status_code == 204


async def test_a_damaged_piece_is_not_written(bob_http: Client) -> None:
    path = await opened(bob_http)
    good = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    refused = await send(bob_http, path, b"y" * len(CONTENT), offset=0, **{"Upload-Checksum": f"sha256 {good}"})
    assert (refused.status_code, refused.json()["code"]) == (460, "upload.checksum")
    assert await offset_of(bob_http, path) == 0
    assert (await send(bob_http, path, CONTENT, offset=0, **{"Upload-Checksum": f"sha256 {good}"})).status_code == 204


async def test_a_file_that_differs_from_its_announced_hash_is_dropped(bob_http: Client) -> None:
    path = await opened(bob_http, sha256="0" * 64)
    refused = await send(bob_http, path, CONTENT, offset=0)
    assert (refused.status_code, refused.json()["code"]) == (460, "upload.checksum")
    assert (await bob_http.head(path, headers=TUS)).status_code == 404
    assert not await Artifact.objects.aexists()
    assert not list(spool.spool_root().iterdir())


async def test_more_bytes_than_announced_are_refused(bob_http: Client) -> None:
    path = await opened(bob_http, size=100)
    refused = await send(bob_http, path, b"z" * 101, offset=0)
    assert (refused.status_code, refused.json()["code"]) == (413, "upload.too_large")
    assert await offset_of(bob_http, path) == 0


async def test_longer_bytes_on_disk_are_cut_at_the_offset_of_the_row(bob_http: Client) -> None:
    path = await opened(bob_http)
    await send(bob_http, path, CONTENT[:100_000], offset=0)
    with spool.part_path(path.rsplit("/", 1)[-1]).open("ab") as part:
        part.write(b"left by a crash" * 100)
    await send(bob_http, path, CONTENT[100_000:], offset=100_000)
    assert (await stored(path)).sha256 == hashlib.sha256(CONTENT).hexdigest()


async def test_a_piece_beyond_16_mib_is_refused_before_it_is_read(bob_http: Client) -> None:
    path = await opened(bob_http, size=64 << 20)
    refused = await send(bob_http, path, bytes((16 << 20) + 1), offset=0)
    assert (refused.status_code, refused.json()["code"]) == (413, "upload.chunk_too_large")


async def test_a_piece_without_length_is_stopped_while_it_streams(bob_http: Client) -> None:
    path = await opened(bob_http, size=64 << 20)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield bytes(1 << 20)

    refused = await bob_http.patch(path, content=endless(), headers={**PIECE, "Upload-Offset": "0"})
    assert (refused.status_code, refused.json()["code"]) == (413, "upload.chunk_too_large")


async def test_a_file_above_8_gib_and_an_empty_one_are_refused(bob_http: Client) -> None:
    for size, status, code in ((8 * 2**30 + 1, 413, "upload.too_large"), (0, 422, "upload.length")):
        head = {**TUS, "Upload-Length": str(size), "Upload-Metadata": metadata(role="model")}
        refused = await bob_http.post("/api/v1/uploads", headers=head)
        assert (refused.status_code, refused.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        ({"Tus-Resumable": "0.2.2"}, 412, "upload.protocol"),
        ({**TUS, "Upload-Length": "-1", "Upload-Metadata": metadata(role="model")}, 400, "upload.length"),
        ({**TUS, "Upload-Length": "9", "Upload-Metadata": "role model!"}, 400, "upload.metadata"),
        ({**TUS, "Upload-Length": "9", "Upload-Metadata": metadata(role="optimized")}, 422, "upload.role"),
        ({**TUS, "Upload-Length": "9", "Upload-Metadata": metadata(role="model", sha256="no")}, 400, "upload.metadata"),
    ],
)
async def test_a_malformed_creation_is_refused(bob_http: Client, head: dict[str, str], status: int, code: str) -> None:
    refused = await bob_http.post("/api/v1/uploads", headers=head)
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert refused.headers["Content-Type"] == "application/problem+json"


async def test_another_persons_upload_looks_like_none(bob_http: Client, charlie_http: Client) -> None:
    path = await opened(bob_http)
    for target in (path, "/api/v1/uploads/upl_00000000000000000000"):
        refused = await send(charlie_http, target, b"x", offset=0)
        assert (refused.status_code, refused.json()["code"]) == (404, "upload.unknown")


async def test_termination_frees_the_bytes(bob_http: Client) -> None:
    path = await opened(bob_http)
    await send(bob_http, path, CONTENT[:1000], offset=0)
    assert (await bob_http.delete(path, headers=TUS)).status_code == 204
    assert (await bob_http.head(path, headers=TUS)).status_code == 404
    assert not list(spool.spool_root().iterdir())


async def test_an_expired_upload_is_gone_and_purged(bob_http: Client) -> None:
    path = await opened(bob_http)
    await send(bob_http, path, CONTENT[:1000], offset=0)
    await Upload.objects.aupdate(expires_at=Now())
    late = await send(bob_http, path, CONTENT[1000:], offset=1000)
    assert (late.status_code, late.json()["code"]) == (410, "upload.expired")
    assert await sync_to_async(purge_expired_uploads)() == 1
    assert await sync_to_async(purge_expired_uploads)() == 0
    assert not list(spool.spool_root().iterdir())
    assert (await Upload.objects.aget()).state == UploadState.EXPIRED


async def test_the_ninth_open_upload_is_refused(bob_http: Client) -> None:
    paths = [await opened(bob_http, size=10) for _ in range(8)]
    head = {**TUS, "Upload-Length": "10", "Upload-Metadata": metadata(role="model")}
    refused = await bob_http.post("/api/v1/uploads", headers=head)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota.uploads")
    await bob_http.delete(paths[0], headers=TUS)
    await opened(bob_http, size=10)


async def test_of_two_uploads_racing_for_the_last_bytes_one_fits(bob_http: Client, team: Team) -> None:
    await Team.objects.filter(pk=team.pk).aupdate(storage_quota_bytes=1500)
    head = {**TUS, "Upload-Length": "1000", "Upload-Metadata": metadata(role="model")}
    answers = await asyncio.gather(*(bob_http.post("/api/v1/uploads", headers=head) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 413, 413, 413]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 413} == {"quota.storage"}
    assert await Upload.objects.acount() == 1


async def test_the_last_byte_of_the_quota_can_be_used(bob_http: Client, team: Team) -> None:
    await Team.objects.filter(pk=team.pk).aupdate(storage_quota_bytes=len(CONTENT))
    path = await opened(bob_http)
    await send(bob_http, path, CONTENT, offset=0)
    head = {**TUS, "Upload-Length": "1", "Upload-Metadata": metadata(role="model")}
    assert (await bob_http.post("/api/v1/uploads", headers=head)).json()["code"] == "quota.storage"


async def test_a_viewer_may_not_upload(vic_access: Access) -> None:
    async with await sync_to_async(client_for)(vic_access) as http:
        head = {**TUS, "Upload-Length": "10", "Upload-Metadata": metadata(role="model")}
        assert (await http.post("/api/v1/uploads", headers=head)).json()["code"] == "forbidden"


async def test_a_plain_form_takes_the_same_way(bob_http: Client) -> None:
    for content in (CONTENT[:1000], random.Random(8).randbytes(4 << 20)):
        response = await bob_http.post("/api/v1/uploads", files={"file": ("m.onnx", content)}, data={"role": "model"})
        assert response.status_code == 201, response.text
        assert response.json()["sha256"] == hashlib.sha256(content).hexdigest()
        assert BlobStore().path(response.json()["sha256"]).read_bytes() == content
        again = await bob_http.get(response.headers["Location"])
        assert again.json()["state"] == "complete"


async def test_a_form_without_file_says_so(bob_http: Client) -> None:
    response = await bob_http.post("/api/v1/uploads", files={"other": ("m.onnx", b"1")})
    assert (response.status_code, response.json()["code"]) == (422, "upload.file_missing")


async def test_a_form_beyond_256_mib_is_refused_unread(bob_http: Client) -> None:
    head = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(300 << 20)}
    refused = await bob_http.post("/api/v1/uploads", headers=head, content=b"")
    assert (refused.status_code, refused.json()["code"]) == (413, "upload.too_large")


async def test_json_beyond_1_mib_is_refused(bob_http: Client) -> None:
    refused = await bob_http.post("/api/v1/models", content=bytes((1 << 20) + 1), headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["code"]) == (413, "request.too_large")


async def test_an_upload_cut_a_hundred_times_resumes_to_the_same_bytes(bob_http: Client) -> None:
    path = await opened(bob_http, sha256=hashlib.sha256(CONTENT).hexdigest())
    chance, cuts = random.Random(11), 0
    while (offset := await offset_of(bob_http, path)) < len(CONTENT):
        piece = CONTENT[offset : offset + 3000]
        cut_at = chance.randrange(len(piece)) if cuts < 100 else None
        cuts += cut_at is not None
        await scripted_patch(bob_http, path, piece, offset=offset, cut_at=cut_at)
        if cut_at is not None and chance.random() < 0.5:
            await scripted_patch(bob_http, path, piece, offset=offset, cut_at=None)
    assert cuts >= 100
    assert (await stored(path)).sha256 == hashlib.sha256(CONTENT).hexdigest()


async def scripted_patch(http: Client, path: str, piece: bytes, *, offset: int, cut_at: int | None) -> None:
    """A PATCH whose client hangs up after ``cut_at`` bytes."""
    headers = {**PIECE, "Upload-Offset": str(offset), "Content-Length": str(len(piece)), "Authorization": http.headers["Authorization"]}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "PATCH", "scheme": "http", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1), "server": ("testserver", 80),
        "headers": [(b"host", b"testserver"), *((k.lower().encode(), v.encode()) for k, v in headers.items())],
    }  # fmt: skip
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": piece[:cut_at], "more_body": cut_at is not None}]
    if cut_at is not None:
        messages.append({"type": "http.disconnect"})
    waiting = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await waiting.wait()
        return {"type": "http.disconnect"}

    async def ignore(message: Any) -> None:
        return None

    app: Callable[..., Awaitable[None]] = BodyLimit(get_asgi_application())
    await app(scope, receive, ignore)


def test_a_crash_between_the_rename_and_the_row_is_mended(bob_access: Access, tmp_path: Path) -> None:
    from parka.registry.uploads import complete

    sha256 = hashlib.sha256(CONTENT).hexdigest()
    upload = create_upload(bob_access, role=ArtifactRole.MODEL, file_name="m.onnx", size_bytes=len(CONTENT))
    part = spool.part_path(upload.public_id)
    part.write_bytes(CONTENT)
    BlobStore().put_file(part, sha256)
    Upload.objects.filter(pk=upload.pk).update(offset_bytes=len(CONTENT), sha256=sha256)
    assert complete(bob_access, upload.public_id).sha256 == sha256


def test_a_runs_uploads_are_its_own_attempts_only(team: Team, bob_access: Access) -> None:
    first, second = Fence(team=team, key="run_x:1:c"), Fence(team=team, key="run_x:2:d")
    upload = create_upload(first, role=ArtifactRole.SAMPLES, file_name="samples.npy", size_bytes=10)
    assert upload_of(first, upload.public_id) == upload
    for owner in (second, bob_access):
        with pytest.raises(NotFound):
            upload_of(owner, upload.public_id)


def test_open_uploads_of_people_do_not_hinder_a_run(team: Team, bob_access: Access) -> None:
    for _ in range(8):
        create_upload(bob_access, role=ArtifactRole.MODEL, file_name="m", size_bytes=1)
    create_upload(Fence(team=team, key="run_x:1:c"), role=ArtifactRole.SAMPLES, file_name="s", size_bytes=1)


def test_an_upload_that_ran_out_of_time_is_gone_for_its_owner(bob_access: Access) -> None:
    upload = create_upload(bob_access, role=ArtifactRole.MODEL, file_name="m", size_bytes=1)
    Upload.objects.update(expires_at=Now())
    with pytest.raises(Gone):
        upload_of(bob_access, upload.public_id)


async def test_a_full_disk_is_said_and_the_upload_goes_on_afterwards(bob_http: Client) -> None:
    wall = 1 << 30
    path = await opened(bob_http, size=wall * 2)
    await Upload.objects.aupdate(offset_bytes=wall - 100)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (wall, hard))
    try:
        refused = await send(bob_http, path, CONTENT, offset=wall - 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (refused.status_code, refused.json()["code"]) == (507, "storage.full")
    assert await offset_of(bob_http, path) == wall - 100
    assert (await send(bob_http, path, CONTENT, offset=wall - 100)).status_code == 204
