"""Section 3.3, Algorithm 1: λ by direct sparse optimisation, its budgets and its ends.

`dsonas_mx.search(...)` is a search: this package can be called, as `dsonas_mx.notebook.search`.
"""

import sys
from types import ModuleType
from typing import Any


class _Search(ModuleType):
    """The package of the search is what `dsonas_mx.search(...)` calls, too."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        from ..notebook import search

        return search(*args, **options)


sys.modules[__name__].__class__ = _Search
