"""The page of all options, in Markdown, made of the comments in the YAML files when it is built."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from occ_lab.config.commands import COMMANDS, module_of
from occ_lab.config.options import EVERYWHERE, Options, overridden
from occ_lab.config.parsers import parser_of, subcommands
from occ_lab.config.values import Allowed
from occ_lab.config.yaml_file import YamlFile

INTRO = """# Options

A setting is typed as `KEY=VALUE`, a choice of a group as `GROUP=NAME`:
`occ-lab train dataset=mvtec dataset.category=bottle loss=padim`. `null` is none, `[a,b]` a list,
and `+KEY=VALUE` adds a key that is not there, such as another argument of the class. In the
terminal, `occ-lab train --info KEY` explains a key.
"""
SHARED = "Commands that work on a dataset"
SLUG = SHARED.lower().replace(" ", "-")


def options_page() -> str:
    """All options, by command and by group, with what each may be and its default.

    Example:
        >>> options_page().splitlines()[0]
        '# Options'
    """
    configured = [name for name, command in COMMANDS.items() if command.configured]
    parts = [INTRO, "## Commands\n"]
    parts += [command_part(name) for name in configured]
    parts += [parser_part(name) for name in COMMANDS if name not in configured]
    shared = f"### {SHARED}\n\nThey have these options in common.\n"
    parts += [shared, own_table(Options("base"), "base"), "## Groups\n"]
    parts += [group_part(group, takers) for group, takers in takers_of(configured).items()]
    return "\n".join(parts)


def takers_of(commands: Sequence[str]) -> dict[str, dict[str, str]]:
    """By group and choice, the first of some commands that takes it."""
    found: dict[str, dict[str, str]] = {}
    for name in commands:
        options = Options(module_of(name))
        for group in options.groups:
            for choice in options.choices(group):
                found.setdefault(group, {}).setdefault(choice, name)
    return found


def command_part(name: str) -> str:
    """A command with a configuration: its groups, and the keys of its file."""
    options = Options(module_of(name))
    file = options.file(module_of(name))
    assert file is not None
    lines = [f"### occ-lab {name}\n", f"{marked(COMMANDS[name].about)}\n"]
    based = [each for each in file.defaults if isinstance(each, str) and each != "_self_"]
    if "base" in based:
        lines.append(f"As well: the options of [{SHARED.lower()}](#{SLUG}).\n")
    lines += [
        f"As well: the options of [occ-lab {each}](#occ-lab-{each}).\n"
        for each in based
        if each != "base"
    ]
    if options.groups:
        links = ", ".join(f"[{each}](#{each})" for each in options.groups)
        lines.append(f"Groups: {links}.\n")
    return "\n".join([*lines, own_table(options, module_of(name))])


def own_table(options: Options, path: str) -> str:
    """The keys of one file."""
    file = options.file(path)
    return table(options, file.keys if file is not None else ())


def group_part(group: str, takers: Mapping[str, str]) -> str:
    """A group: the keys that all choices have in common, then each choice.

    Args:
        group: its name.
        takers: a command that takes the choice, for each of its choices.
    """
    choices = {each: Options(module_of(name), [f"{group}={each}"]) for each, name in takers.items()}
    commands = " and ".join(f"`occ-lab {name}`" for name in dict.fromkeys(takers.values()))
    lines = [f"### {group}\n", f"Of {commands}: `{group}=` and one of these.\n"]
    lines += ["| Choice | |", "| --- | --- |"]
    lines += [
        f"| [{each}](#{group}{each}) | {marked(found.choices(group)[each])} |"
        for each, found in choices.items()
    ]
    known = {each: set(keys_of(group, found)) for each, found in choices.items()}
    common = [
        key
        for key in next(iter(known.values()), ())
        if len(known) > 1
        and all(key in each for each in known.values())
        and len({said(each, key) for each in choices.values()}) == 1
    ]
    first = next(iter(choices.values()))
    common = [key for key in keys_of(group, first) if key in common]
    usual = {
        key: Counter(default(each, key) for each in choices.values()).most_common(1)[0][0]
        for key in common
    }
    if common:
        lines += ["", "All of them have these options.\n", table(first, common, usual).rstrip()]
    for each, found in choices.items():
        file = found.file(f"{group}/{each}")
        assert file is not None
        lines += ["", f"#### {group}={each}\n", f"{marked(file.about)}\n"]
        lines += [choice_part(found, file, group, usual)]
    return "\n".join([*lines, ""])


def choice_part(options: Options, file: YamlFile, group: str, usual: dict[str, str]) -> str:
    """A choice of a group: the choices that it makes, its defaults, its own keys."""
    made = [next(iter(each.items())) for each in file.defaults if isinstance(each, dict)]
    set_here = [f"`{overridden(key)}={value}`" for key, value in made if overridden(key)]
    if file.package:  # its keys are those of other groups, but for what it explains itself
        own = [key for key, each in file.keys.items() if each.allowed and each.value is not None]
        set_here += [
            f"`{key}={each.value}`"
            for key, each in file.keys.items()
            if each.value is not None and key not in own
        ]
        lines = [f"Sets {', '.join(set_here)}.\n"] if set_here else []
        return "\n".join([*lines, table(options, own)])
    other = [
        f"`{key}={default(options, key).strip('`')}`"
        for key in usual
        if default(options, key) != usual[key] and not key.endswith(".name")
    ]
    rest = [key for key in keys_of(group, options) if key not in usual]
    lines = [f"Chooses {', '.join(set_here)}.\n"] if set_here else []
    lines += [f"Defaults of its own: {', '.join(other)}.\n"] if other else []
    return "\n".join([*lines, table(options, rest)])


def keys_of(group: str, options: Options) -> list[str]:
    """The keys below a group."""
    return [
        key
        for key in options.leaves()
        if key.startswith(f"{group.replace('/', '.')}.")
        and key.rpartition(".")[2] not in EVERYWHERE
    ]


def table(options: Options, keys: Iterable[str], usual: dict[str, str] | None = None) -> str:
    """Keys, a row for each; nothing where there are none."""
    leaves = options.leaves()
    shown = [key for key in keys if key in leaves and key.rpartition(".")[2] not in EVERYWHERE]
    shown = [key for key in shown if not options.in_a_whole(key)]
    if not shown:
        return ""
    lines = ["| Option | Default | May be | What it is |", "| --- | --- | --- | --- |"]
    for key in shown:
        text, allowed = said(options, key)
        value = (usual or {}).get(key) or default(options, key)
        lines.append(f"| `{key}` | {value} | {allowed} | {text} |")
    return "\n".join([*lines, ""])


def said(options: Options, key: str) -> tuple[str, str]:
    """What explains a key and what it may be, in Markdown."""
    found = options.explained(key)
    if found is None:
        return "", ""
    return marked(found.said), marked(Allowed(found.allowed).in_words if found.allowed else "")


def default(options: Options, key: str) -> str:
    """The default of a key, in Markdown: as it is by default, or by the kind of the dataset."""
    typed = options.keys[key].value or ""
    if typed == "???":
        return "none"
    if found := re.fullmatch(r"\$\{kind\.([\w.]+)\}", typed):
        kinds = [f"kinds.{kind}.{found[1]}" for kind in ("structured", "semantic")]
        if all(each in options.keys for each in kinds):
            each = dict.fromkeys(str(options.value(one)) for one in kinds)
            return " or ".join(f"`{one}`" for one in each) + (" (by kind)" if len(each) > 1 else "")
    if found := re.fullmatch(r"\$\{oc\.env:(\w+),'?([^']*)'?\}", typed):
        return f"`{found[2]}`, or the environment's `{found[1]}`"
    return f"`{options.value(key)}`"


def parser_part(name: str) -> str:
    """A command without a configuration: its arguments."""
    parser = parser_of(name)
    lines = [f"### occ-lab {name}\n", f"{marked(parser.description or '')}\n"]
    lines += argument_table(parser)
    for command, (below, what) in subcommands(parser).items():
        lines += [f"`occ-lab {name} {command}`: {marked(what)}.\n", *argument_table(below)]
    return "\n".join(lines)


def argument_table(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The arguments of a parser, a row for each; nothing where there are none."""
    apart = ("help", "command")  # the latter is a table for each
    shown = [each for each in parser._actions if each.dest not in apart]
    if shown:
        yield "| Argument | What it is |\n| --- | --- |"
    for each in shown:
        named = " ".join([*each.option_strings[:1], str(each.metavar or "")]).strip()
        text = parser._get_formatter()._expand_help(each) if each.help else ""
        yield f"| `{named or each.dest}` | {marked(text)} |"
    if shown:
        yield ""


def marked(text: str) -> str:
    r"""A text with what Markdown or HTML would read otherwise escaped.

    Example:
        >>> print(marked("<class>/*.png, `a`"))
        &lt;class&gt;/\*.png, `a`
    """
    return text.replace("<", "&lt;").replace(">", "&gt;").replace("*", "\\*").replace("|", "\\|")
