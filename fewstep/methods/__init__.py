"""One way to a few-step generator a file; their losses as pure functions beside them.

A method is found by the `METHOD` in its file (`methods.method.Method` says what it declares); the
teacher that some of them distil is `methods.edm`.
"""

from fewstep.methods.method import find_methods

METHODS = find_methods(__name__, __path__)
