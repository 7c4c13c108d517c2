#!/usr/bin/env python3
"""Cut the recordings down to what the simulator for OpenSky serves.

    python3 cut.py traffic_paris_2021-10-07.json.gz sfo_flights_2020-03.csv.gz ../../airports/data/iata.txt

Writes paris_2021-10-07.txt.gz and sfo_2020-03-19_23.csv.gz beside this script; README.md there says
what they hold.
"""

import csv
import gzip
import hashlib
import json
import math
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
NOON = 1633608000  # 7 October 2021, 12:00 UTC
PARIS = (48.86, 2.42)
RADIUS_NM = 60.0
STEP = 10
DAYS = (1584576000, 1585008000)  # 19 to 23 March 2020, UTC


def nautical_miles(one, other):
    (lat1, lon1), (lat2, lon2) = one, other
    half = math.sin(math.radians(lat2 - lat1) / 2) ** 2 + math.cos(math.radians(lat1)) * math.cos(
        math.radians(lat2)
    ) * math.sin(math.radians(lon2 - lon1) / 2) ** 2
    return 2 * 6371.0088 * math.asin(math.sqrt(half)) / 1.852


def write(name, lines):
    # No time stamp and no name inside, so that the same input gives the same bytes.
    with open(HERE / name, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(("\n".join(lines) + "\n").encode("ascii"))


def whole(value, unit=1):
    return "" if value is None else str(round(value / unit))


def paris(source):
    with gzip.open(source) as packed:
        rows = json.load(packed)
    kept = {}
    for row in sorted(rows, key=lambda row: row["timestamp"]):
        if nautical_miles(PARIS, (row["latitude"], row["longitude"])) <= RADIUS_NM:
            # The last row up to each tenth second, so that what is known at that second is unchanged.
            kept[row["icao24"], -(-row["timestamp"] // (1000 * STEP))] = row
    lines, before = [], None
    for row in sorted(kept.values(), key=lambda row: (row["icao24"], row["timestamp"])):
        if (row["icao24"], row["callsign"]) != before:
            before = (row["icao24"], row["callsign"])
            lines.append(">" + ",".join(before))
        lines.append(
            ",".join(
                [
                    str(row["timestamp"] // 1000 - NOON),
                    whole(row["latitude"], 1e-5),
                    whole(row["longitude"], 1e-5),
                    whole(row["altitude"], 25),
                    whole(row["groundspeed"]),
                    whole(row["track"], 0.1),
                    whole(row["vertical_rate"]),
                    row["squawk"] or "",
                    "1" if row["onground"] else "0",
                ]
            )
        )
    write("paris_2021-10-07.txt.gz", lines)
    print(len(kept), "positions")


def san_francisco(source, iata):
    icao = {line[:3]: line[3:7] for line in open(iata, encoding="ascii")}
    lines = []
    with gzip.open(source, "rt", encoding="utf-8", newline="") as packed:
        for row in csv.DictReader(packed):
            at = int(row["timestamp"])
            # A codeshare repeats another row; a cancelled flight stays listed without a gate.
            if row["codeshare_of"] or not row["gate"] or not DAYS[0] <= at < DAYS[1]:
                continue
            other = row["origin_iata"] if row["event"] == "A" else row["dest_iata"]
            digest = hashlib.sha256(row["flight_id"].encode()).digest()
            # A block of addresses that no country has, so that no real aircraft is named.
            icao24 = 0xF80000 | int.from_bytes(digest[:3], "big") & 0x07FFFF
            callsign = row["airline_icao"] + row["flight_number"][len(row["airline_iata"]) :]
            lines.append(f"{row['event']},{at},{icao24:06x},{callsign},{icao[other]}")
    lines.sort(key=lambda line: line.split(",")[1::-1])
    write("sfo_2020-03-19_23.csv.gz", lines)
    print(len(lines), "flights")


paris(sys.argv[1])
san_francisco(sys.argv[2], sys.argv[3])
