"""Pure Python that makes and drops small objects: dicts, tuples, strings, instances, generators.

usage: churn.py ROUNDS
"""

import sys


class Node:
    """A small object."""

    def __init__(self, name: str, parent: "Node | None") -> None:
        """Take a name and who is above."""
        self.name, self.parent, self.tags = name, parent, {}


def tree(depth: int, parent: "Node | None" = None) -> int:
    """Make a binary tree of nodes; return how long their names are."""
    node = Node(f"node {depth} of {parent.name if parent else 'nobody'}"[:40], parent)
    node.tags["depth"] = depth
    return len(node.name) + sum(tree(depth - 1, node) for _ in range(2)) if depth else len(node.name)


def table(rows: int) -> int:
    """Make rows of tuples, sort them, group them."""
    held = sorted((f"{(i * 7919) % rows:06d}", i, (i, str(i))) for i in range(rows))
    groups: dict = {}
    for name, number, more in held:
        groups.setdefault(name[-1], []).append({"name": name, "number": number, "more": more})
    return sum(len(group) for group in groups.values())


total = 0
for _ in range(int(sys.argv[1])):
    total += tree(8) + table(1000)
print(total)
