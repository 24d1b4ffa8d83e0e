// rqlite-js, as npm has it, against a cluster: `cargo xtask clients` gives it the http addresses (host:port) of all nodes.
// Every step asserts; it prints what it has shown and ends with 0, or with a stack trace.
const assert = require('node:assert')
const { DataApiClient } = require('rqlite-js')

async function state (address) {
  const answer = await fetch(`http://${address}/status`)
  return (await answer.json()).store.raft.state
}

async function main (addresses) {
  const states = await Promise.all(addresses.map(state))
  const follower = addresses[states.findIndex(one => one !== 'Leader')]
  const client = new DataApiClient(`http://${follower}`)
  const ddl = await client.execute(['DROP TABLE IF EXISTS animal', 'CREATE TABLE animal (id INTEGER PRIMARY KEY, name TEXT UNIQUE)'])
  assert(!ddl.hasError(), ddl.toString())

  const written = await client.execute([
    ['INSERT INTO animal (name) VALUES (?)', "d'og"],
    ['INSERT INTO animal (name) VALUES (?), (?)', 'cat', null]
  ], { transaction: true })
  assert(!written.hasError(), written.toString())
  assert.deepStrictEqual([written.get(0).getLastInsertId(), written.get(1).getRowsAffected()], [1, 2])

  const rows = await client.query('SELECT id, name FROM animal ORDER BY id', { level: 'strong' })
  assert.deepStrictEqual(rows.toArray(), [{ id: 1, name: "d'og" }, { id: 2, name: 'cat' }, { id: 3, name: null }])

  const refused = await client.execute([
    "INSERT INTO animal (name) VALUES ('cow')",
    "INSERT INTO animal (name) VALUES ('cat')"
  ], { transaction: true })
  assert(refused.hasError())
  assert.match(refused.getFirstError().message, /UNIQUE constraint failed: animal.name/)
  const count = await client.query('SELECT count(*) AS n FROM animal', { level: 'strong' })
  assert.strictEqual(count.get(0).get('n'), 3, 'a transaction that failed changed something')
  console.log('  rqlite-js at a follower: definitions, transactions, parameters, rows, errors')
}

main(process.argv.slice(2)).catch(error => {
  console.error(error)
  process.exit(1)
})
