#!/usr/bin/env python3
"""Cut airportsdata's airports.csv down to what Flightbell needs.

    python3 cut.py path/to/airports.csv

Writes airports.tsv (the airports whose ICAO code is four letters, sorted by it) and iata.txt (each
IATA code followed by the ICAO code it stands for, sorted; a code of several airports is left out)
beside this script. The crate searches both as they are, so their order is part of their meaning.
"""

import collections
import csv
import pathlib
import re
import sys

here = pathlib.Path(__file__).resolve().parent
with open(sys.argv[1], encoding="utf-8", newline="") as source:
    rows = [row for row in csv.DictReader(source) if re.fullmatch("[A-Z]{4}", row["icao"])]
rows.sort(key=lambda row: row["icao"])

columns = ["icao", "iata", "lat", "lon", "country", "name", "city"]
with open(here / "airports.tsv", "w", encoding="utf-8", newline="\n") as table:
    for row in rows:
        values = [row[column].strip() for column in columns]
        assert not any("\t" in value or "\n" in value for value in values), values
        table.write("\t".join(values) + "\n")

users = collections.Counter(row["iata"] for row in rows if row["iata"])
with open(here / "iata.txt", "w", encoding="utf-8", newline="\n") as index:
    for iata, icao in sorted((row["iata"], row["icao"]) for row in rows if users[row["iata"]] == 1):
        index.write(iata + icao + "\n")
