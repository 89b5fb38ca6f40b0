"""Programs of ranks that find each other, with nothing but Python. Their text has no single quotes, for a shell."""

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
"""Two ranks add up; rank 0 writes the sum to the file that is its argument."""

ALL_REDUCE = """
import os, sys, time
from multiprocessing.connection import Client, Listener
folder, rank, size = sys.argv[1], int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
if rank == 0:
    with Listener(address, backlog=size) as listener:
        others = [listener.accept() for _ in range(size - 1)]
        total = sum(other.recv() for other in others)
        for other in others:
            other.send(total)
else:
    for _ in range(500):
        try:
            connection = Client(address)
            break
        except ConnectionRefusedError:
            time.sleep(0.02)
    connection.send(rank)
    total = connection.recv()
print("rank", rank, "of", size, "on node", os.environ["NODE_RANK"], "has", total, flush=True)
os.makedirs(folder, exist_ok=True)
for name, text in ((f"part-{rank}", str(total)), ("all", str(size))):
    with open(os.path.join(folder, name), "w") as file:
        file.write(text)
with open(f"outputs/rank-{rank % 2}", "w") as file:
    file.write(str(rank))
"""
"""Ranks add up their numbers; each writes the sum to a file of its own in the folder that is its argument, and all the
same to another one, and keeps a file whose name a rank of another node has as well."""
