"""A program of two ranks that find each other."""

from __future__ import annotations

ADD = """
import os, sys, time
from multiprocessing.connection import Client, Listener
address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
print("rank", os.environ["RANK"])
if os.environ["RANK"] == "0":
    with Listener(address) as listener, listener.accept() as other:
        open(sys.argv[1], "w").write(str(1 + other.recv()))
else:
    for _ in range(500):
        try:
            Client(address).send(2)
            break
        except ConnectionRefusedError:
            time.sleep(0.02)
"""
