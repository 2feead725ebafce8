"""A table for a notebook."""

from markupsafe import Markup

from secateur.pipelines.pages.words import Table

NUMBERS = "0123456789"


def html_table(table: Table) -> Markup:
    """An HTML table with right-aligned columns of numbers."""
    head, *lines = table
    right = [at > 0 and any(line[at][:1] in NUMBERS for line in lines if line[at]) for at in range(len(head))]
    aligned = ["right" if each else "left" for each in right]
    rows = [row_of("th", head, aligned), *(row_of("td", line, aligned) for line in lines)]
    return Markup("<table>{}</table>").format(Markup("").join(rows))


def row_of(tag: str, cells: list[str], aligned: list[str]) -> Markup:
    """A row of an HTML table."""
    cell = Markup(f'<{tag} style="text-align:{{}}">{{}}</{tag}>')
    return Markup("<tr>{}</tr>").format(Markup("").join(map(cell.format, aligned, cells)))
