"""The bench table as an SVG bar chart: each bar is the value as a share of its target, 100 % = just met."""

from html import escape

WIDTH, LEFT, BAR, TOP, FULL = 860, 400, 26, 64, 160
MET, MISSED = "#2a7f62", "#b3392f"


def svg(report):
    judged = [r for r in report["table"] if r["passed"] is not None]
    height = TOP + BAR * len(judged) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="12" y="24" font-size="16">pgpci, {report["rows"]:,} rows, PostgreSQL {report["postgresql"]}</text>',
        '<text x="12" y="44" fill="#555">value against its target (the line); the better side is named</text>',
    ]
    for number, row in enumerate(judged):
        sign, limit = row["target"].split()
        share = row["value"] / float(limit)
        # A bar that would leave the picture is cut; its value stands beside it.
        length = max(2.0, min(share * FULL, FULL * 1.9))
        y = TOP + BAR * number
        better = "less" if sign == "<=" else "more"
        colour = MET if row["passed"] else MISSED
        parts += [
            f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(row["what"])}</text>',
            f'<rect x="{LEFT}" y="{y + 2}" width="{length:.1f}" height="{BAR - 9}" fill="{colour}"/>',
            f'<text x="{LEFT + length + 6:.1f}" y="{y + 14}" fill="#333">{row["value"]:.2f} {escape(row["unit"])} '
            f'({escape(row["target"])}, {better} is better)</text>',
        ]
    parts.append(f'<line x1="{LEFT + FULL}" x2="{LEFT + FULL}" y1="{TOP - 4}" y2="{TOP + BAR * len(judged)}" stroke="#222" stroke-dasharray="3 3"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"
