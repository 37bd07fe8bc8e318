"""Documents that are asked for by their id; over a WebSocket: live/test_documents.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from app.settings import Settings, SettingsError
from schema.documents import Documents, id_of
from tests.schema.conftest import Api

NAMED = "query($id: ID!) { node(id: $id) { id } }"
WHO = "{ viewer { actor { ... on User { email } } } }"
LONG = "a" * 100_001
KNOWN = {id_of(text): text for text in (NAMED, WHO)}


def only(api: Api, *, required: bool) -> None:
    """The application with these documents."""
    object.__setattr__(api.services, "documents", Documents(KNOWN, required))


async def refusal(api: Api, body: dict[str, Any]) -> str:
    response = await api.post(body)
    assert response.status_code == 400
    return str(response.json()["errors"][0]["extensions"]["code"])


async def test_a_known_document_is_asked_for_by_its_id(api: Api) -> None:
    only(api, required=False)
    answer = (await api.post({"documentId": id_of(WHO)})).json()
    assert answer == {"data": {"viewer": {"actor": {"email": "admin@acme.example"}}}}
    nobody = (await api.post({"documentId": id_of(NAMED), "variables": {"id": "nobody"}})).json()
    assert nobody == {"data": {"node": None}}
    assert (await api.post({"query": WHO})).json() == answer


async def test_what_is_not_known_is_refused(api: Api) -> None:
    only(api, required=False)
    assert await refusal(api, {"documentId": id_of("{ other }")}) == "DOCUMENT_UNKNOWN"
    assert await refusal(api, {"documentId": id_of(WHO), "query": WHO}) == "DOCUMENT_UNKNOWN"
    assert await refusal(api, {"documentId": 7}) == "BAD_REQUEST"
    only(api, required=True)
    assert await refusal(api, {"query": WHO}) == "DOCUMENT_REQUIRED"
    assert (await api.post({"documentId": id_of(WHO)})).status_code == 200


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"sha256:00": "{ viewer }"}', '{"x": 3}', orjson.dumps({id_of(LONG): LONG}).decode()],
)
def test_a_file_that_is_not_what_it_has_to_be_is_told_at_the_start(tmp_path: Path, content: str) -> None:
    file = tmp_path / "documents.json"
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"documents\.json"):
        Documents.of(Settings(documents_file=file))


def test_a_file_is_read_and_needed_where_others_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "documents.json"
    file.write_bytes(orjson.dumps(KNOWN))
    settings = Settings.from_environment({"WINDLASS_DOCUMENTS_FILE": str(file), "WINDLASS_DOCUMENTS": "required"})
    assert Documents.of(settings) == Documents(KNOWN, only=True)
    with pytest.raises(SettingsError, match="DOCUMENTS_FILE"):
        Documents.of(Settings(documents="required"))
