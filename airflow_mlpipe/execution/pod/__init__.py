"""Steps in pods: the half that runs inside of one, and the documents by which it talks to the engine outside.

A pod has two containers of this package beside the step's own: one lays out code and inputs before the step starts,
one commits its outputs after it has ended. Neither reaches the catalog, nor knows anything of Kubernetes: they read an
order from the default datastore and write their answer beside it.
"""
