"""What a document must look like before it is stored. It is not drawn or parsed: that needs the code that attackers of
PDF readers aim at, and what matters is whether it came whole, and is what it says.

Source: ISO 32000-1, 7.5.2 (a file begins with %PDF- and its version) and 7.5.5 (its last line is %%EOF). Readers look
for the second in the last 1,024 bytes.
"""

BEGIN, END = b"%PDF-", b"%%EOF"
_LAST = 1024


def problem(body: bytes) -> str | None:
    """`not_a_pdf`, `truncated` if its end is missing, or None."""
    if not body.startswith(BEGIN):
        return "not_a_pdf"
    return None if END in body[-_LAST:] else "truncated"
