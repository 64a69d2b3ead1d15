"""The file of a bulk import: quoted CSV, `;` between cells, UTF-8, gzip, in a multipart body. Pure."""

import csv
import gzip
import io
import uuid
from collections.abc import Iterable, Sequence

from connectors.inxmail.transport import Body


def csv_file(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """The file's text: a header with `email` first, then the rows. An empty cell clears its attribute."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=";", quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(("email", *columns))
    writer.writerows(rows)
    return text.getvalue().encode()


def import_body(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Body:
    """The multipart body with the one part `file`. Each row: the address, then a cell for each column."""
    packed = gzip.compress(csv_file(columns, rows), compresslevel=3)
    boundary = uuid.uuid4().hex
    head = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="file"; filename="datafile.csv.gz"\r\n'
        "Content-Type: application/gzip\r\n"
        "Content-Encoding: gzip\r\n\r\n"
    )
    data = head.encode() + packed + f"\r\n--{boundary}--\r\n".encode()
    return Body(data, f"multipart/form-data; boundary={boundary}")
