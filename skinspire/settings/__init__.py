"""Settings of the active environment: ``base`` plus ``dev``, ``test`` or ``prod``.

Where the environment is unknown only ``base`` is loaded, with no database at all, so that the
system checks can say what is wrong and nothing can be done meanwhile.
"""

from __future__ import annotations

import importlib

from skinspire.settings import base as _base

_modules = [_base]
if _base.ENVIRONMENT.name != "unknown":
    _modules.append(importlib.import_module(f"skinspire.settings.{_base.ENVIRONMENT.name}"))
for _module in _modules:
    globals().update({key: value for key, value in vars(_module).items() if key.isupper()})
