"""``/price-book``: dated prices with sources; a change makes a new version and new scorecards."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from optimizer.specs import Provenance
from parka.api.links import api_link
from parka.api.resource import Resource
from parka.core.errors import PreconditionFailed
from parka.scorecards import selectors
from parka.scorecards.models import PriceBook
from parka.scorecards.services import BookChanges, PriceChange
from parka.workflow.prices import change_prices


class PriceSerializer(serializers.Serializer):
    """What an hour of a machine costs. ``agent.<id>`` is the price of one agent, ``vcpu.…`` that of one vCPU."""

    key = serializers.CharField()
    hardware = serializers.CharField(allow_blank=True)
    vcpus = serializers.IntegerField(allow_null=True)
    usd_per_hour = serializers.DecimalField(max_digits=12, decimal_places=6)
    source = serializers.CharField(allow_blank=True)  # type: ignore[assignment]
    dated = serializers.CharField(allow_blank=True)
    flag = serializers.CharField(allow_blank=True)
    provenance = serializers.ChoiceField(choices=[one.value for one in Provenance])


class PriceBookSerializer(serializers.Serializer):
    """One version of the team's prices."""

    id = serializers.CharField(source="public_id")
    version = serializers.IntegerField()
    currency = serializers.CharField()
    utilization = serializers.DecimalField(max_digits=4, decimal_places=3)
    prices = PriceSerializer(source="prices.all", many=True)
    created_by = serializers.CharField(source="created_by.display_name", default=None, allow_null=True)
    created_at = serializers.DateTimeField()


class PriceChangeSerializer(serializers.Serializer):
    """A price that you enter; ``usd_per_hour`` null takes the key out, back to the default."""

    key = serializers.CharField(max_length=80)
    usd_per_hour = serializers.DecimalField(max_digits=12, decimal_places=6, min_value=0, allow_null=True)
    hardware = serializers.CharField(max_length=120, required=False, default="", allow_blank=True)
    vcpus = serializers.IntegerField(min_value=1, max_value=65535, required=False, allow_null=True, default=None)
    source = serializers.CharField(max_length=120, required=False, default="", allow_blank=True)  # type: ignore[assignment]
    dated = serializers.CharField(max_length=10, required=False, default="", allow_blank=True)


class PriceBookChangeSerializer(serializers.Serializer):
    """What shall be different in the next version."""

    prices = PriceChangeSerializer(many=True, required=False, default=list)
    utilization = serializers.DecimalField(max_digits=4, decimal_places=3, required=False, allow_null=True, default=None)


class PriceBookDetail(Resource):
    """The team's prices."""

    @extend_schema(operation_id="get_price_book", tags=["costs"], responses=PriceBookSerializer)
    def get(self, request: Request) -> Response:
        """The newest version; its ETag guards a change."""
        return shown(selectors.price_book(self.access))

    @extend_schema(operation_id="change_price_book", tags=["costs"], request=PriceBookChangeSerializer, responses=PriceBookSerializer)
    def patch(self, request: Request) -> Response:
        """A new version with some prices changed; finished runs are scored again. ``If-Match`` guards against lost updates."""
        body = self.read(PriceBookChangeSerializer)
        changes = BookChanges(
            prices=tuple(PriceChange(**change) for change in body["prices"]),
            utilization=body["utilization"],
            base_version=self._matched_version(),
        )
        return shown(change_prices(self.access, changes))

    def _matched_version(self) -> int | None:
        wanted = self.request.headers.get("If-Match", "").strip()
        if not wanted or wanted == "*":
            return None
        current = selectors.price_book(self.access)
        if wanted != etag(current):
            raise PreconditionFailed("request.precondition")
        return current.version


class PriceBookVersions(Resource):
    """Every version of the team's prices."""

    @extend_schema(operation_id="list_price_books", tags=["costs"], responses=PriceBookSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Versions, newest first."""
        rows: QuerySet[PriceBook] = selectors.price_books(self.access)
        return self.page(rows, lambda row: PriceBookSerializer(row).data, ordering="-version")


class PriceBookVersion(Resource):
    """One version of the team's prices."""

    @extend_schema(operation_id="get_price_book_version", tags=["costs"], responses=PriceBookSerializer)
    def get(self, request: Request, version: int) -> Response:
        """A version as it was."""
        return shown(selectors.price_book(self.access, version=version))


def etag(book: PriceBook) -> str:
    return f'"prices-{book.public_id}"'


def shown(book: PriceBook) -> Response:
    fresh = PriceBook.objects.select_related("created_by").prefetch_related("prices").get(pk=book.pk)
    body: Any = PriceBookSerializer(fresh).data
    return Response(body, headers={"ETag": etag(fresh), "Content-Location": api_link("price-book", "versions", fresh.version)})
