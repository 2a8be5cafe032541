"""Rows that are not what they should be."""


class InvalidRow(Exception):
    """Why one row cannot be read, told as `what: detail`: it goes to quarantine, counted by what stands before the
    colon, and the run goes on."""
