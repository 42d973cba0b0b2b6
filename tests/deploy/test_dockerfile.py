"""The Dockerfile, as far as it can be checked without building the image."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from occ_lab.config.composition import composed

try:
    import tomllib
except ImportError:
    import tomli as tomllib  # type: ignore[no-redef]

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEXT = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
STEPS = [line.split(maxsplit=1) for line in TEXT.splitlines() if line and line[0] != "#"]
LAST = STEPS[max(index for index, step in enumerate(STEPS) if step[0] == "FROM") :]


def values(keyword: str, steps: list[list[str]]) -> list[str]:
    return [rest for name, rest in steps if name == keyword]


def test_it_starts_the_service_by_its_real_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = values("ENTRYPOINT", LAST)
    program, command, *asked = json.loads(entry)
    assert (program, command) == ("occ-lab", "serve")
    monkeypatch.setenv("OCC_LAB_TOKEN", "k" * 20)
    cfg = composed("serve", [each for each in asked if not each.startswith("hydra.")])
    assert (cfg.run, cfg.host, cfg.port, cfg.token) == ("/run-dir", "0.0.0.0", 8000, "k" * 20)
    assert values("EXPOSE", LAST) == ["8000"]
    (health,) = values("HEALTHCHECK", LAST)
    check = json.loads(health.partition(" CMD ")[2])
    assert "127.0.0.1:8000/health" in check[-1]
    compile(check[-1], "HEALTHCHECK", "exec")


def test_it_runs_without_rights_and_writes_to_its_volume() -> None:
    assert values("USER", LAST) == ["inspector"]
    assert [step[0] for step in LAST].index("USER") < [step[0] for step in LAST].index("ENTRYPOINT")
    assert values("VOLUME", LAST) == values("WORKDIR", LAST) == ["/results"]
    assert values("STOPSIGNAL", LAST) == ["SIGTERM"]


def test_what_it_copies_is_there_and_not_ignored() -> None:
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = [rest.split()[:-1] for rest in values("COPY", STEPS) if not rest.startswith("--")]
    names = [name for each in copied for name in each]
    assert sorted(names) == sorted(kept)
    assert all((ROOT / name).exists() for name in names)
    built = {"pyproject.toml", "conf", "src", PROJECT["readme"], *PROJECT["license-files"]}
    assert built <= set(names)


def test_it_installs_what_there_is() -> None:
    bases = {rest.split()[0] for rest in values("FROM", STEPS)}
    (base,) = bases
    version = re.fullmatch(r"python:([\d.]+)-slim", base)
    assert version
    assert version[1] in SpecifierSet(PROJECT["requires-python"])
    (extra,) = re.findall(r"'\.\[(\w+)\]'", TEXT)
    assert {Requirement(each).name for each in PROJECT["optional-dependencies"][extra]} >= {
        "fastapi",
        "uvicorn",
    }
