"""What mkdocs does besides: docstrings are laid out for their reader, tables get boxes that scroll, names break at
points alone, and every page has a copy in Markdown, listed in `llms.txt`.
"""

import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import yaml
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
MIRROR = ROOT / "build" / "docstrings" / "secateur"

DIALOGUE = 'data-md-component="search" role="dialog"'
TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
ROW = re.compile(r"<tr>(.*?)</tr>", re.DOTALL)
CELL = re.compile(r"<t[hd][^>]*>(.*?)</t[hd]>", re.DOTALL)
TAG = re.compile(r"<[^>]+>")
OBJECT = re.compile(r'(?<=class="doc doc-object-name )([\w-]+">)([\w.]+)(?=</span>)')
"""Names with points in headings of the reference."""
CODE = re.compile(r"(?<!<span></span>)<code>([^<\n]+)</code>")
LONG, MEDIUM = 60, 24
"""Characters of a column's longer cells from which it is wide, or middling."""
LEAST = {"long": 240, "medium": 150, "short": 0}
"""Pixels of a column that site.css asks for; a letter takes about 7.3 and the room beside a cell 21."""
DESK = 800
"""Pixels of a table from which it may not fit a page 1400 pixels wide."""
WHOLE = 30
"""Characters of a name up to which it stays in one piece."""
OF_PROJECT = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
"""Pages of the site by files of the project."""
DIRECTIVE = re.compile(r"^::: (\S+)\n((?:    .*\n)*)", re.MULTILINE)

written: dict[str, str] = {}
"""Markdown of each page by its path."""


def on_startup(**_: Any) -> None:
    """Lay out the mirror that `paths` of mkdocs.yml names: the four folders with an `__init__.py` in each room.

    In the project itself they hold none, or `selectors/` would hide the standard library's module.
    """
    shutil.rmtree(MIRROR, ignore_errors=True)
    MIRROR.mkdir(parents=True)
    (MIRROR / "__init__.py").touch()
    for path in (path for floor in (ROOT / ".layout" / "secateur").iterdir() for path in floor.rglob("*.py")):
        copy = MIRROR / path.relative_to(ROOT / ".layout" / "secateur")
        copy.parent.mkdir(parents=True, exist_ok=True)
        for room in (parent for parent in copy.parents if parent.is_relative_to(MIRROR)):
            (room / "__init__.py").touch()
        shutil.copyfile(path, copy)


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Take in pages that stand at the top of the project; their links to `docs/` then begin here."""
    for name, source in OF_PROJECT.items():
        text = (ROOT / source).read_text().replace("](docs/", "](").replace("](CHANGELOG.md", "](changelog.md")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> None:
    """Keep each page's Markdown for its copy."""
    written[page.file.src_uri] = markdown


def on_page_content(html: str, **_: Any) -> str:
    """Mark tables and names, of which the style sheet then decides how they scroll and break."""
    named = OBJECT.sub(lambda found: found[1] + found[2].replace(".", ".<wbr>"), html)
    return CODE.sub(lambda found: unbroken(found[1]), TABLE.sub(lambda found: boxed(found[0]), named))


def on_post_page(output: str, **_: Any) -> str:
    """Name the search for readers of the screen: the theme leaves its dialogue without a name."""
    return output.replace(DIALOGUE, f'{DIALOGUE} aria-label="Search"')


def boxed(table: str) -> str:
    """A table in a box of its own that scrolls, with a class for each column by its longer texts.

    A table of many columns is `wide`: its first column stays. One that does not fit a desk is `beyond`, too.
    """
    rows = [[unescape(TAG.sub("", cell)) for cell in CELL.findall(row)] for row in ROW.findall(table)]
    columns = list(zip(*rows, strict=False))
    lengths = [sorted(map(len, column))[int(0.9 * len(column))] for column in columns]  # one long cell may wrap
    widths = ["long" if each > LONG else "medium" if each > MEDIUM else "short" for each in lengths]
    needed = sum(
        max(LEAST[width], 7.3 * max((len(word) for cell in column for word in cell.split()), default=0) + 21)
        for width, column in zip(widths, columns, strict=True)
    )
    kinds = iter(widths)
    marked = re.sub(r"<th\b", lambda _: f'<th class="{next(kinds, "short")}"', table)
    marked = re.sub(r"<th[^>]*></th>", "<td></td>", marked)  # a head without a word is none
    heads = ", ".join(unescape(TAG.sub("", cell)) for cell in CELL.findall((ROW.findall(table) or [""])[0]) if cell)
    wide = (" wide beyond" if needed > DESK else " wide") if len(columns) > 4 else ""
    label = heads.replace("&", "&amp;").replace('"', "&quot;")
    return f'<div class="table-box{wide}" tabindex="0" role="group" aria-label="Table: {label}">{marked}</div>'


def unbroken(name: str) -> str:
    """Code within a line: short names in one piece, long ones with places to break at."""
    if " " not in name and len(name) <= WHOLE:
        return f'<code class="name">{name}</code>'
    return "<code>" + re.sub(r"(?<=[\w)\]])([./=,])(?=\w)", r"\1<wbr>", name) + "</code>"


def on_env(env: Any, config: Any, **_: Any) -> Any:
    """Write out directives of mkdocstrings in the Markdown, while it still has the code in memory."""
    handler = config["plugins"]["mkdocstrings"].get_handler("python")
    for name, markdown in written.items():
        written[name] = DIRECTIVE.sub(lambda found: documented(handler, found), markdown)
    return env


def on_post_build(config: Any, **_: Any) -> None:
    """Write each page in Markdown beside its HTML, and `llms.txt`, which lists them as the navigation does.

    A sitemap holds whole addresses: without a `site_url` there is none.
    """
    site = Path(config["site_dir"])
    for name, markdown in written.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(markdown)
    (site / "llms.txt").write_text(listed(config))
    if not config["site_url"]:
        for name in ("sitemap.xml", "sitemap.xml.gz"):
            (site / name).unlink(missing_ok=True)


def documented(handler: Any, found: re.Match[str]) -> str:
    """What a directive of mkdocstrings shows, in Markdown: signatures and docstrings."""
    options = (yaml.safe_load(found[2] or "") or {}).get("options", {})
    whole = handler.collect(found[1], handler.get_options(options))
    members = options.get("members", None if whole.is_module else False)
    if absent := [name for name in members or () if name not in whole.members]:
        raise PluginError(f"{found[1]} has no {', '.join(absent)}: mend the page")
    shown = [whole] if members is False else [whole.members[name] for name in members or public(whole)]
    methods = members is not False
    return "\n\n".join(one_documented(one, methods) for one in [*([whole] if whole.is_module else []), *shown]) + "\n"


def public(module: Any) -> list[str]:
    """Names that a module defines for others and says something of."""
    return [
        name
        for name, one in module.members.items()
        if not name.startswith("_") and not one.is_alias and one.has_docstring
    ]


def one_documented(one: Any, with_methods: bool = True) -> str:
    """One module, class, function or attribute; of a class its methods, too, unless the page leaves them out."""
    signature = f"```python\n{one.signature()}\n```\n\n" if one.is_function or one.is_class else ""
    said = f"## {one.path}\n\n{signature}{one.docstring.value if one.docstring else ''}"
    inside = public(one) if one.is_class and with_methods else []
    methods = [one.members[name] for name in inside if one.members[name].is_function]
    return "\n\n".join([said, *map(one_documented, methods)])


def listed(config: Any) -> str:
    """`llms.txt`: the site's name, what it is for, and the pages by group of the navigation."""
    lines = [f"# {config['site_name']}", "", f"> {config['site_description']}"]
    for group in config["nav"]:
        ((title, pages),) = group.items()
        lines += ["", f"## {title}", ""]
        for page in [{title: pages}] if isinstance(pages, str) else pages:
            ((name, path),) = page.items()
            lines.append(f"- [{name}]({path}): {first_sentence(written[path])}")
    return "\n".join(lines) + "\n"


def first_sentence(markdown: str) -> str:
    """The first sentence below a page's heading, without links, pictures, tables and code."""
    text = re.sub(r"^(```.*?^```|<!--.*?-->)$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(- |([#|<!]|::: |    ).*$)", "", text, flags=re.MULTILINE)
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(text.split()))
    return re.split(r"(?<=[.?])\s(?=[A-Z`*])", plain, maxsplit=1)[0].rstrip(":")
