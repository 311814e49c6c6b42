"""/api/v1/imports: what is made of files that other training code has saved."""

from http import HTTPStatus

from arena_core.application.resources import ImportView
from arena_core.domain.checkpoint_import import Order
from arena_core.domain.values import Role
from arena_core.entrypoints.http.endpoints import (
    Call,
    Endpoint,
    Listed,
    Listing,
    ListOf,
    Past,
    Reply,
)
from arena_core.entrypoints.http.preconditions import Versioned

PATH = "/api/v1/imports"
IMPORT = Versioned("import")
OF_EXPERIMENT = "/api/v1/experiments/{experiment_id}/imports"
ONE = PATH + "/{import_id}"


def requested(call: Call, order: Order) -> Reply:
    """Ask for an import of the files that were uploaded."""
    asked = call.use.imports.request(call.ids["experiment_id"], call.body, order)
    where = f"{call.base_url}{PATH}/{asked.id}"
    return Reply(asked, HTTPStatus.ACCEPTED, where)


def listed(call: Call) -> Reply:
    found = call.use.imports.list(call.ids["experiment_id"], paging=call.query.paging())
    return Reply(Listed.of(found))


def show(call: Call) -> Reply:
    return Reply(call.use.imports.get(call.ids["import_id"]))


def cancel(call: Call) -> Reply:
    return Reply(call.use.imports.cancel(call.ids["import_id"]))


ENDPOINTS = (
    Endpoint(
        "GET",
        OF_EXPERIMENT,
        listed,
        Role.VIEWER,
        "List the imports of an experiment",
        ListOf(ImportView),
        query=Listing,
    ),
    Endpoint(
        "GET",
        ONE,
        show,
        Role.VIEWER,
        "Show an import: its status, what is being done, why it failed",
        ImportView,
        query=Past,
        versioned=IMPORT,
    ),
    Endpoint(
        "DELETE",
        ONE,
        cancel,
        Role.MEMBER,
        "Cancel an import that has not ended; it stays in the list",
        ImportView,
        versioned=IMPORT,
    ),
)
