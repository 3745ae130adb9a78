"""Reading a table that was written as Markdown."""


def cells_of(text: str, section: str) -> dict[str, list[str]]:
    """The cells of a section's table, by the first of each row."""
    lines = text.split(f"## {section}")[1].split("##")[0].splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    return {name: cells for name, *cells in rows}
