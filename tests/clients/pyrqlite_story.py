"""pyrqlite, as PyPI has it, against a cluster: `cargo xtask clients` gives it the http addresses (host:port) of all nodes.

The client knows a follower only. Every step asserts; the script prints what it has shown and ends with 0, or with a traceback.
"""

import json
import logging
import sys
import urllib.request

import pyrqlite.dbapi2 as dbapi2


def state(address):
    with urllib.request.urlopen(f"http://{address}/status", timeout=10) as answer:
        return json.load(answer)["store"]["raft"]["state"]


def connected(address):
    host, port = address.rsplit(":", 1)
    return dbapi2.connect(host=host, port=int(port), timeout=30)


def fails(action, *says):
    try:
        action()
    except dbapi2.Error as error:
        for part in says:
            assert part in str(error), f"no {part!r} in {error}"
        return
    raise AssertionError(f"it should have failed with {says}")


def definitions_and_rows(cursor):
    cursor.execute("DROP TABLE IF EXISTS person")
    cursor.execute(
        "CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, weight REAL, active BOOL, note TEXT)"
    )
    cursor.execute("INSERT INTO person (name, weight, active) VALUES (?, ?, ?)", ("O'Brien", 71.5, True))
    assert cursor.lastrowid == 1, cursor.lastrowid
    cursor.execute("INSERT INTO person (name, weight) VALUES (:name, :weight)", {"name": "Zoë \N{SNOWMAN}", "weight": 2})
    assert cursor.lastrowid == 2, cursor.lastrowid
    cursor.executemany("INSERT INTO person (name) VALUES (?)", [(f"p{n}",) for n in range(50)])
    assert cursor.rowcount == 50, cursor.rowcount
    cursor.execute("UPDATE person SET weight = ? WHERE id > ?", (1.25, 2))
    assert cursor.rowcount == 50, cursor.rowcount
    cursor.execute("DELETE FROM person WHERE id > 12")
    assert cursor.rowcount == 40, cursor.rowcount


def types(cursor):
    cursor.execute("SELECT id, name, weight, active, note FROM person WHERE id <= 2 ORDER BY id")
    assert [column[0] for column in cursor.description] == ["id", "name", "weight", "active", "note"]
    first, second = cursor.fetchall()
    assert tuple(first) == (1, "O'Brien", 71.5, True, None), tuple(first)
    assert tuple(second) == (2, "Zoë \N{SNOWMAN}", 2.0, None, None), tuple(second)
    assert first["name"] == "O'Brien"
    assert (type(first[0]), type(first[2]), type(first[3])) == (int, float, bool)
    cursor.execute("SELECT 9223372036854775807 AS big, count(*) AS n, max(weight) AS w FROM person")
    assert tuple(cursor.fetchone()) == (9223372036854775807, 12, 71.5)
    cursor.execute("SELECT name FROM person WHERE id > 1000")
    assert cursor.fetchall() == [] and cursor.fetchone() is None
    cursor.execute("SELECT id FROM person ORDER BY id")
    assert [row[0] for row in cursor.fetchmany(3)] == [1, 2, 3]
    assert [row[0] for row in cursor] == list(range(4, 13))


def levels(cursor):
    for level in ("none", "weak", "linearizable", "strong"):
        cursor.execute("SELECT count(*) FROM person", consistency=level)
        (count,) = cursor.fetchone()
        # Level none shows a committed prefix of the node that answers: whatever it is, it is no failure.
        assert count == 12 or level == "none", (level, count)


def errors(cursor):
    fails(lambda: cursor.execute("SELEC 1"), "syntax error")
    fails(lambda: cursor.execute("SELECT * FROM nowhere"), "no such table: nowhere")
    fails(
        lambda: cursor.execute("INSERT INTO person (name) VALUES (?)", ("O'Brien",)),
        "UNIQUE constraint failed: person.name",
    )
    fails(lambda: cursor.execute("INSERT INTO person (name) VALUES (?)", ("q",), queue=True), "400")
    cursor.execute("SELECT count(*) FROM person")
    assert tuple(cursor.fetchone()) == (12,), "a refused write changed something"


def redirects(connection, leader):
    """The client's own code for 301: it goes to where the answer points, and stays there."""
    body = json.dumps(["INSERT INTO person (name) VALUES ('redirected')"])
    answer = connection._fetch_response(
        "POST", "/db/execute?redirect", body=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status == 200, answer.status
    results = json.loads(answer.read())["results"]
    assert results[0]["rows_affected"] == 1, results
    assert f"{connection.host}:{connection.port}" == leader, (connection.host, connection.port, leader)


def main(addresses):
    # It logs the errors that it raises.
    logging.getLogger("pyrqlite").setLevel(logging.CRITICAL)
    states = {address: state(address) for address in addresses}
    (leader,) = [address for address, is_in in states.items() if is_in == "Leader"]
    follower = next(address for address in addresses if address != leader)
    connection = connected(follower)
    with connection.cursor() as cursor:
        for step in (definitions_and_rows, types, levels, errors):
            step(cursor)
            print(f"  pyrqlite at a follower: {step.__name__}")
    redirects(connection, leader)
    with connected(follower).cursor() as cursor:
        cursor.execute("SELECT count(*) FROM person WHERE name = 'redirected'", consistency="strong")
        assert tuple(cursor.fetchone()) == (1,)
    print("  pyrqlite: redirects")


if __name__ == "__main__":
    main(sys.argv[1:])
