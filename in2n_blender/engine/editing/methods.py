"""The methods that an edit can be made by."""

from __future__ import annotations

from ...link.requests import Edit
from ...scene.reporting import Reporter
from .agreement import Agreement
from .dataset_update import DatasetUpdate, Faithful, edit

METHODS = {method.name: method for method in (Agreement, Faithful, DatasetUpdate)}


def edit_by_method(request: Edit, report: Reporter) -> dict:
    """Edit the workspace's reconstruction by the request's method; see `dataset_update.edit`."""
    return edit(request, report, METHODS[request.editing_method])
