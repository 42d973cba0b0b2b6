"""Constraints to the lowest supported versions: ``python -m experiments.versions.lowest``.

Prints ``name==version`` for every requirement of the installed occ-lab and of its extras, but for
the tools of development. What these bring in their turn is not constrained.
"""

from __future__ import annotations

from importlib.metadata import requires

from packaging.requirements import Requirement


def main() -> None:
    """Print the constraints."""
    print("\n".join(lowest(requires("occ-lab") or [])))


def lowest(requirements: list[str]) -> list[str]:
    """The lower bound of each requirement as its version.

    Raises:
        ValueError: a requirement has no lower bound.
    """
    bounds = []
    for each in map(Requirement, requirements):
        if each.name == "occ-lab" or 'extra == "dev"' in str(each.marker):
            continue
        (bound,) = (part.version for part in each.specifier if part.operator == ">=")
        bounds.append(f"{each.name}=={bound}")
    return sorted(set(bounds))


if __name__ == "__main__":
    main()
