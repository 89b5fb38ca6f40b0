"""A stand-in for a Kubernetes cluster: an API server on 127.0.0.1 whose pods' containers run on a Docker engine.

For tests only. What a pod asks for is done: its containers run, in order, with their volumes, limits and signals.
What it has not got: rights (RBAC) beyond "a pod's own account may do nothing", quotas, admission plugins, a network of
pods, real GPUs, an image registry, probes other than a startup command, and memory that outlives its process.

`python -m cluster --help` says how it is started; `cluster_site` starts it for tests.
"""
