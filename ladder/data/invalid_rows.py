"""Error for rows that cannot be read."""


class InvalidRow(Exception):
    """Error for one row that cannot be read, with a message of the form `what: detail`.

    The row goes to quarantine and the run continues. Quarantined rows are counted by `what`.
    """
