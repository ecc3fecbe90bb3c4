"""One request in a hundred fails, and what went wrong keeps it for ever.

scenario: leak of 1 % of requests
verdict: leak
rate: 1000 * 8033 / 100
mode: both

The other 99 % are freed at once. A body of 8,000 bytes is an object of 8,033.
"""

from pace import events

failures = []


class BadRequest(Exception):
    """Has the request with it."""


def read_body():
    return bytes(8000)  # blamed


def handle(number):
    body = read_body()
    if number % 100 == 99:
        raise BadRequest(body)


def main():
    for number, _ in enumerate(events(1000)):
        try:
            handle(number)
        except BadRequest as error:
            failures.append(error.args)


main()
