"""From upload to READY or REJECTED, through a real sandboxed child."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rest_framework.test import APIClient

from optimizer.sandbox import Level, best_level
from parka.accounts.access import Access
from parka.core.blobs import BlobStore
from parka.core.errors import Forbidden, NotFound, Refused
from parka.registry import selectors, services
from parka.registry.models import Artifact, ArtifactRole, Dataset, Intake, Model, ModelVersion
from parka.registry.uploads import Announced, store_file
from parka.workflow.intake import inspect_dataset, inspect_version
from tests.samples import sample_path

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def any_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that runs the tests may have no better level than C."""
    monkeypatch.setenv("PARKA_INGEST_ALLOW_C", "1")


def stored(access: Access, content: bytes, *, name: str, role: ArtifactRole = ArtifactRole.MODEL, folder: Path) -> Artifact:
    path = folder / "upload.bin"
    path.write_bytes(content)
    upload = store_file(access, announced=Announced(role=role, file_name=name, size_bytes=len(content)), path=path)
    assert upload.artifact is not None
    return upload.artifact


def inspected(access: Access, content: bytes, *, name: str, folder: Path) -> ModelVersion:
    version = services.register_version(access, artifact=stored(access, content, name=name, folder=folder))
    inspect_version(version.pk)
    version.refresh_from_db()
    return version


def npz(**arrays: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.savez(target, **arrays)
    return target.getvalue()


def test_a_real_model_becomes_ready_with_its_card(bob_access: Access, tmp_path: Path) -> None:
    content = sample_path("S2.cls").read_bytes()
    version = inspected(bob_access, content, name="cls.onnx", folder=tmp_path)
    assert (version.state, version.code) == (Intake.READY, "")
    card = version.card or {}
    assert card["inputs"][0]["name"] == "x"
    assert card["parameters"] > 100_000
    assert not any(child.name.startswith("intake-") for child in (tmp_path / "spool").iterdir())


def test_inspecting_twice_changes_nothing(bob_access: Access, tmp_path: Path) -> None:
    version = inspected(bob_access, sample_path("S2.cls").read_bytes(), name="cls.onnx", folder=tmp_path)
    ModelVersion.objects.filter(pk=version.pk).update(card={"kept": True})
    inspect_version(version.pk)
    inspect_version(10**9)
    assert ModelVersion.objects.get(pk=version.pk).card == {"kept": True}


def not_a_model() -> bytes:
    return b"hello, I am a text file\n" * 20


def pickled() -> bytes:
    return pickle.dumps({"weights": list(range(100))})


def truncated() -> bytes:
    content = sample_path("S2.cls").read_bytes()
    return content[: len(content) // 2]


def zipped_with_parent_path() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("../model.onnx", b"x")
    return target.getvalue()


@pytest.mark.parametrize(
    ("make", "name", "code"),
    [
        (not_a_model, "model.onnx", "format.unknown"),
        (pickled, "model.onnx", "format.pickle"),
        (truncated, "model.onnx", "onnx.malformed"),
        (zipped_with_parent_path, "model.zip", "zip.path"),
    ],
)
def test_a_bad_file_is_rejected_with_its_code(bob_access: Access, tmp_path: Path, make: Callable[[], bytes], name: str, code: str) -> None:
    version = inspected(bob_access, make(), name=name, folder=tmp_path)
    assert (version.state, version.code) == (Intake.REJECTED, code)
    assert version.message.endswith(".")
    assert version.card is None


def test_an_extension_that_lies_is_rejected(bob_access: Access, tmp_path: Path) -> None:
    version = inspected(bob_access, sample_path("S2.cls").read_bytes(), name="model.npz", folder=tmp_path)
    assert (version.state, version.code) == (Intake.REJECTED, "format.mismatch")


def test_a_dataset_becomes_ready(bob_access: Access, tmp_path: Path) -> None:
    content = npz(x=np.zeros((5, 3, 4), np.float32), label=np.arange(5))
    artifact = stored(bob_access, content, name="d.npz", role=ArtifactRole.DATASET, folder=tmp_path)
    dataset = services.register_dataset(bob_access, artifact=artifact, name="Five", metric="top1")
    inspect_dataset(dataset.pk)
    dataset.refresh_from_db()
    assert (dataset.state, dataset.slug) == (Intake.READY, "five")
    assert (dataset.card or {})["samples"] == 5


def test_a_dataset_with_objects_is_rejected(bob_access: Access, tmp_path: Path) -> None:
    content = npz(x=np.array([{"a": 1}], dtype=object))
    artifact = stored(bob_access, content, name="d.npz", role=ArtifactRole.DATASET, folder=tmp_path)
    dataset = services.register_dataset(bob_access, artifact=artifact)
    inspect_dataset(dataset.pk)
    assert (Dataset.objects.get().state, Dataset.objects.get().code) == (Intake.REJECTED, "npz.object_dtype")


def test_a_blob_that_vanished_is_said_to_be_missing(bob_access: Access, tmp_path: Path) -> None:
    artifact = stored(bob_access, b"model bytes", name="m.onnx", folder=tmp_path)
    version = services.register_version(bob_access, artifact=artifact)
    BlobStore().delete(artifact.sha256)
    inspect_version(version.pk)
    assert ModelVersion.objects.get().code == "artifact.missing"


def test_identical_bytes_are_said_to_be_identical(bob_access: Access, charlie_access: Access, tmp_path: Path) -> None:
    first = services.register_version(bob_access, artifact=stored(bob_access, b"same", name="a.onnx", folder=tmp_path))
    second = services.register_version(bob_access, artifact=stored(bob_access, b"same", name="b.onnx", folder=tmp_path), name="Other")
    theirs = services.register_version(charlie_access, artifact=stored(charlie_access, b"same", name="c.onnx", folder=tmp_path))
    assert selectors.identical_version(second) == first
    assert selectors.identical_version(first) is None
    assert selectors.identical_version(theirs) is None


def test_versions_count_up_per_model_and_slugs_stay_apart(bob_access: Access, tmp_path: Path) -> None:
    artifact = stored(bob_access, b"bytes", name="ResNet 50.onnx", folder=tmp_path)
    first = services.register_version(bob_access, artifact=artifact)
    second = services.register_version(bob_access, artifact=artifact, model=first.model)
    other = services.register_version(bob_access, artifact=artifact)
    assert [str(version) for version in (first, second, other)] == ["resnet-50@1", "resnet-50@2", "resnet-50-2@1"]


def test_another_teams_artifact_and_model_are_not_found(bob_access: Access, charlie_access: Access, tmp_path: Path) -> None:
    theirs = stored(charlie_access, b"secret", name="s.onnx", folder=tmp_path)
    mine = stored(bob_access, b"mine", name="m.onnx", folder=tmp_path)
    model = services.register_version(charlie_access, artifact=theirs).model
    for arguments in ({"artifact": theirs}, {"artifact": mine, "model": model}):
        with pytest.raises(NotFound):
            services.register_version(bob_access, **arguments)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        selectors.artifact(bob_access, theirs.public_id)


def test_knowing_a_hash_grants_nothing(api: Callable[..., APIClient], bob_access: Access, charlie_access: Access, tmp_path: Path) -> None:
    theirs = stored(charlie_access, b"secret", name="s.onnx", folder=tmp_path)
    assert api(bob_access).get(f"/api/v1/artifacts?sha256={theirs.sha256}").json()["items"] == []
    assert api(charlie_access).get(f"/api/v1/artifacts?sha256={theirs.sha256}").json()["items"][0]["id"] == theirs.public_id


def test_the_same_content_of_two_teams_is_stored_once_and_stays_apart(bob_access: Access, charlie_access: Access, tmp_path: Path) -> None:
    first, second = (stored(access, b"shared", name="s", folder=tmp_path) for access in (bob_access, charlie_access))
    assert first.sha256 == second.sha256
    assert first.public_id != second.public_id
    assert len([path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]) == 1


def test_a_download_is_an_attachment_that_no_browser_opens(api: Callable[..., APIClient], bob_access: Access, tmp_path: Path) -> None:
    artifact = stored(bob_access, b"<html>bytes</html>", name='x".html', folder=tmp_path)
    response = api(bob_access).get(f"/api/v1/artifacts/{artifact.public_id}/content")
    assert b"".join(response.streaming_content) == b"<html>bytes</html>"  # type: ignore[attr-defined]
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"].startswith("attachment")
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["ETag"] == f'"{artifact.sha256}"'


def test_a_viewer_cannot_register_and_an_archived_model_takes_no_version(bob_access: Access, vic_access: Access, tmp_path: Path) -> None:
    artifact = stored(bob_access, b"bytes", name="m.onnx", folder=tmp_path)
    with pytest.raises(Forbidden):
        services.register_version(vic_access, artifact=artifact)
    model = services.register_version(bob_access, artifact=artifact).model
    services.archive_model(bob_access, model=model)
    model.refresh_from_db()
    with pytest.raises(Refused) as refusal:
        services.register_version(bob_access, artifact=artifact, model=model)
    assert refusal.value.code == "model.archived"
    services.restore_model(bob_access, model=model)
    assert Model.objects.get().archived_at is None


def test_a_weak_sandbox_is_not_enough_for_a_server(bob_access: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARKA_INGEST_ALLOW_C")
    monkeypatch.delenv("PARKA_EMBEDDED", raising=False)
    version = services.register_version(bob_access, artifact=stored(bob_access, b"x", name="m.onnx", folder=tmp_path))
    inspect_version(version.pk)
    expected = "format.unknown" if best_level(tmp_path) <= Level.B else "intake.sandbox_too_weak"
    assert ModelVersion.objects.get().code == expected


def test_an_upload_becomes_a_model_through_the_api(api: Callable[..., APIClient], bob_access: Access) -> None:
    client = api(bob_access)
    with sample_path("S2.cls").open("rb") as file:
        upload = client.post("/api/v1/uploads", {"file": file, "role": "model"}).json()
    created = client.post("/api/v1/models", {"upload": upload["id"], "name": "Cls"}, format="json")
    assert created.status_code == 201
    body = created.json()
    assert (body["name"], body["state"], body["identical_to"]) == ("cls@1", "uploaded", None)
    inspect_version(ModelVersion.objects.get().pk)
    ready = client.get(created["Location"]).json()
    assert ready["state"] == "ready"
    assert ready["card"]["inputs"][0]["name"] == "x"
    assert client.get(f"/api/v1/versions/{ready['id']}").json() == client.get("/api/v1/versions/cls@1").json()
    again = client.post("/api/v1/models/cls/versions", {"upload": upload["id"]}, format="json").json()
    assert (again["number"], again["identical_to"]) == (2, "cls@1")
