#!/usr/bin/env python3
"""Computes what the map of flights must answer, and compares that with what came out.

    check_output.py --out FILE --dead FILE.dead INPUT...

It shares no code with the map, and needs Python's standard library only. The inputs are read line by line, as the
demo reads them: a line ends with \\n, one \\r before that does not count, and empty lines are skipped. Order does not
matter, number does: every expected record must be in the output exactly once for each time it is expected.

It ends with 0 when all is right; with 1 and the first record that is missing, extra or doubled when not; and with 2
when it cannot tell.
"""

import argparse
import csv
import hashlib
import json
import math
import re
import sys
from collections import Counter
from functools import lru_cache
from pathlib import Path

FIELDS = ("date", "delay", "distance", "origin", "destination")
COMPUTED = ("delay_per_100_miles", "origin_city", "origin_state", "destination_city", "destination_state")
AIRPORTS = Path(__file__).parents[2] / "data" / "airports.csv"
# An input may be many copies of one file: so many lines are not computed again when they come again.
REMEMBERED = 1 << 16
# What JSON calls a number; float() alone would take " 66", "+66", "6_6", "inf" and the digits of other scripts.
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


class Unreadable(Exception):
    """A line that is not a flight."""


class Beyond(Exception):
    """A line that may be a flight, and Python's JSON parser cannot tell."""


class Number(str):
    """A JSON number by its text: 66 and 66.0 are different inputs, and no digit is lost."""


class Object(list):
    """A JSON object as its pairs: order and duplicates are kept."""


def refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


# Python would take NaN and Infinity, and keep the last of two equal names.
DECODER = json.JSONDecoder(
    object_pairs_hook=Object, parse_float=Number, parse_int=Number, parse_constant=refuse_constant
)


def lines(path):
    with open(path, "rb") as file:
        for line in file:
            yield line.removesuffix(b"\n")


def inputs_of(path):
    """The lines that are given to the map, with their numbers."""
    for number, line in enumerate(lines(path), 1):
        line = line.removesuffix(b"\r")
        if line:
            yield number, line


def read_airports():
    def known(text):
        return None if text == "NA" else text

    with open(AIRPORTS, encoding="utf-8", newline="") as file:
        return {row["iata"]: (known(row["city"]), known(row["state"])) for row in csv.DictReader(file)}


def must_be_text(value):
    """A string of whole characters: Python would let half of a surrogate pair through."""
    if type(value) is not str:
        raise Unreadable
    value.encode("utf-8")


def fields_of_json(text):
    pairs = DECODER.decode(text)
    for name, _ in pairs:
        must_be_text(name)
    return [(name, value) for name, value in pairs if name in FIELDS]


def fields_of_csv(text):
    # A byte order mark and line breaks before the first row are no part of it.
    rows = list(csv.reader([text.removeprefix("\ufeff").lstrip("\r\n")]))
    if len(rows) != 1 or len(rows[0]) != len(FIELDS):
        raise Unreadable
    pairs = zip(FIELDS, rows[0])
    return [(name, Number(value)) if name in ("delay", "distance") and NUMBER.fullmatch(value) else (name, value)
            for name, value in pairs]


def flight(line, airports):
    """The record that must come out; None for a flight that is dropped."""
    text = line.decode("utf-8")
    pairs = fields_of_json(text) if text.startswith("{") else fields_of_csv(text)
    if sorted(name for name, _ in pairs) != sorted(FIELDS):
        raise Unreadable
    values = dict(pairs)
    for name in ("date", "origin", "destination"):
        must_be_text(values[name])

    if not (isinstance(values["delay"], Number) and isinstance(values["distance"], Number)):
        return None
    delay, distance = float(values["delay"]), float(values["distance"])
    if not distance > 0:
        return None
    per_100_miles = (delay / distance) * 100
    if not (math.isfinite(distance) and math.isfinite(per_100_miles)):
        raise Unreadable
    origin = airports.get(values["origin"], (None, None))
    destination = airports.get(values["destination"], (None, None))
    return pairs + list(zip(COMPUTED, (Number(per_100_miles), *origin, *destination)))


def expected(line, airports):
    """What becomes of a line, and the fingerprint of what it leaves behind."""
    try:
        record = flight(line, airports)
    except RecursionError:
        raise Beyond(f"a line is nested deeper than this checker can follow: {shown(line)}") from None
    except (Unreadable, ValueError, csv.Error):
        return "dead letters", fingerprint(line)
    return ("dropped", None) if record is None else ("mapped", fingerprint(canonical(record)))


def canonical(record):
    """A record as bytes that are equal when the records are: same order, same strings and numbers of the input by
    their text, the computed number by its value."""
    return repr([
        (name, type(value).__name__, repr(float(value)) if name == COMPUTED[0] and type(value) is Number else value)
        for name, value in record
    ]).encode("utf-8", "surrogatepass")


def fingerprint(data):
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


@lru_cache(REMEMBERED)
def output_record(line):
    try:
        record = DECODER.decode(line.decode("utf-8"))
        if isinstance(record, Object):
            return fingerprint(canonical(record))
    except (ValueError, RecursionError):
        pass
    raise Unreadable


def shown(line):
    return repr(line if len(line) <= 300 else line[:300] + b"...")


def take_away(path, fingerprint_of, left):
    """Counts the lines of a file off those expected, and returns what is wrong with the first one that is too many."""
    for number, line in enumerate(lines(path), 1):
        try:
            found = fingerprint_of(line)
        except Unreadable:
            return f"{path} line {number} is not a JSON object: {shown(line)}"
        if found not in left:
            return f"{path} line {number} is extra: {shown(line)}"
        if not left[found]:
            return f"{path} line {number} is there once too often: {shown(line)}"
        left[found] -= 1
    return None


def missing(inputs, airports, left):
    """The first input line whose record did not come out."""
    for path in inputs:
        for number, line in inputs_of(path):
            what, found = expected(line, airports)
            if what != "dropped" and left[what][found]:
                return f"{path} line {number} is missing from the {what}: {shown(line)}"
    return None


def check(arguments):
    csv.field_size_limit(sys.maxsize)
    airports = read_airports()
    expected_of = lru_cache(REMEMBERED)(lambda line: expected(line, airports))
    counts = Counter()
    left = {"mapped": Counter(), "dead letters": Counter()}
    for path in arguments.inputs:
        for _, line in inputs_of(path):
            what, found = expected_of(line)
            counts[what] += 1
            if what != "dropped":
                left[what][found] += 1
    print(f"read {counts.total()}", *(f"{what} {counts[what]}" for what in ("mapped", "dropped", "dead letters")),
          sep=", ", flush=True)

    problem = take_away(arguments.out, output_record, left["mapped"]) \
        or take_away(arguments.dead, fingerprint, left["dead letters"])
    if not problem and any(any(counter.values()) for counter in left.values()):
        problem = missing(arguments.inputs, airports, left)
    return problem


def main():
    parser = argparse.ArgumentParser(description="Compares the output of the map of flights with its own computation.")
    parser.add_argument("--out", required=True, metavar="FILE", help="what the map answered, one JSON object a line")
    parser.add_argument("--dead", required=True, metavar="FILE", help="the dead letters, one a line")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="what the map was given")
    try:
        problem = check(parser.parse_args())
    except (OSError, Beyond) as error:
        print(error, file=sys.stderr)
        return 2
    if problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
