// One client. Most messages go to the session as they are; names of prepared statements are made
// private to the connection, and COPY FROM STDIN, which the session cannot do, becomes a COPY from
// a device that holds the data.
import { failure, greeting, message, read, ready, splitText, statusOf, text } from './messages.mjs'

const COPY = /^\s*copy\s+([\s\S]+?)\s+from\s+stdin\b([\s\S]*)$/i

// `{ statement, isBinary }` for a COPY FROM STDIN, otherwise undefined.
function parseCopy(sql) {
  const [, target, options] = sql.match(COPY) ?? []
  if (!target) return undefined
  return {
    statement: `copy ${target} from '/dev/blob' ${options.replace(/;\s*$/, '')}`,
    isBinary: /binary/i.test(options),
  }
}

export class Connection {
  #socket
  #session
  #prefix
  // Messages of an exchange that the session has not seen.
  #pending = []
  // Prepared statements by their private name: a COPY or undefined.
  #statements = new Map()
  // The COPY that the client has bound and not executed.
  #bound
  // The COPY whose data is arriving: `{ statement, parts, isExtended }`.
  #copy
  // After the end of an extended COPY: everything up to the Sync is ignored.
  #untilSync = false
  #status = 'I'
  #endTurn

  constructor(socket, session, number) {
    this.#socket = socket
    this.#session = session
    this.#prefix = `c${number}_`
  }

  async run() {
    try {
      for await (const { type, body } of read(this.#socket)) {
        if (type === 'X') break
        if (type === 'startup') this.#answer(greeting())
        else if (this.#copy) await this.#takeCopyData(type, body)
        else await this.#take(type, body)
      }
    } finally {
      await this.#leave()
      this.#socket.end()
    }
  }

  #answer(bytes) {
    if (bytes.length) this.#socket.write(bytes)
  }

  async #take(type, body) {
    if (this.#untilSync) {
      if (type === 'S') this.#finishExchange()
      return
    }
    switch (type) {
      case 'Q': return this.#takeQuery(body)
      case 'P': return this.#takeParse(body)
      case 'B': return this.#takeBind(body)
      case 'E': return this.#takeExecute(body)
      case 'D':
      case 'C': return this.#takeNamed(type, body)
      default:
        this.#pending.push(message(type, body))
        if (type === 'S' || type === 'H') await this.#flush()
    }
  }

  async #takeQuery(body) {
    const copy = parseCopy(splitText(body)[0])
    if (copy) return this.#beginCopy(copy, false)
    this.#pending.push(message('Q', body))
    return this.#flush()
  }

  #takeParse(body) {
    const [name, rest] = splitText(body)
    this.#statements.set(this.#private(name), parseCopy(splitText(rest)[0]))
    this.#pending.push(message('P', text(this.#private(name)), rest))
  }

  async #takeBind(body) {
    const [portal, afterPortal] = splitText(body)
    const [name, rest] = splitText(afterPortal)
    this.#bound = this.#statements.get(this.#private(name))
    if (!this.#bound) {
      this.#pending.push(message('B', text(portal), text(this.#private(name)), rest))
      return
    }
    await this.#flush()
    this.#answer(message('2'))
  }

  #takeExecute(body) {
    const copy = this.#bound
    this.#bound = undefined
    if (copy) this.#beginCopy(copy, true)
    else this.#pending.push(message('E', body))
  }

  // Describe and Close name a statement or a portal.
  #takeNamed(type, body) {
    const [kind, [name, rest]] = [body.subarray(0, 1), splitText(body.subarray(1))]
    const isStatement = kind.toString() === 'S'
    if (isStatement && type === 'C') this.#statements.delete(this.#private(name))
    this.#pending.push(message(type, kind, text(isStatement ? this.#private(name) : name), rest))
  }

  #private(name) {
    return name && this.#prefix + name
  }

  #beginCopy({ statement, isBinary }, isExtended) {
    this.#copy = { statement, parts: [], isExtended }
    this.#answer(message('G', Buffer.from([isBinary ? 1 : 0, 0, 0])))
  }

  // What is neither data nor its end is ignored, as the protocol has it.
  async #takeCopyData(type, body) {
    if (type === 'd') this.#copy.parts.push(Buffer.from(body))
    if (type === 'c') await this.#endCopy(({ statement, parts }) => this.#session.copyFrom(statement, parts))
    if (type === 'f') {
      const reason = `COPY from stdin failed: ${splitText(body)[0]}`
      await this.#endCopy(() => { throw Object.assign(new Error(reason), { code: '57014' }) })
    }
  }

  async #endCopy(work) {
    const copy = this.#copy
    this.#copy = undefined
    await this.#takeTurn()
    try {
      const rows = await work(copy)
      this.#answer(message('C', text(`COPY ${rows}`)))
    } catch (error) {
      if (error instanceof WebAssembly.RuntimeError) throw error
      await this.#failTransaction()
      this.#answer(failure(error))
    }
    if (copy.isExtended) this.#untilSync = true
    else this.#finishExchange()
  }

  // An error ends a transaction, also one that the session has not heard of.
  async #failTransaction() {
    if (this.#status !== 'T') return
    this.#status = statusOf(await this.#session.send(message('Q', text('do $$ begin raise exception $e$$e$; end $$'))))
  }

  #finishExchange() {
    this.#untilSync = false
    this.#answer(ready(this.#status))
    this.#releaseTurn()
  }

  async #flush() {
    if (!this.#pending.length) return
    const messages = Buffer.concat(this.#pending)
    this.#pending = []
    await this.#takeTurn()
    const answer = await this.#session.send(messages)
    const status = statusOf(answer)
    this.#answer(answer)
    if (status) {
      this.#status = status
      this.#releaseTurn()
    }
  }

  async #takeTurn() {
    this.#endTurn ??= await this.#session.turn()
  }

  #releaseTurn() {
    if (this.#status !== 'I') return
    this.#endTurn?.()
    this.#endTurn = undefined
  }

  // Leaves nothing of this connection in the session.
  async #leave() {
    await this.#takeTurn()
    const rollback = this.#status === 'I' ? [] : [message('Q', text('rollback'))]
    const names = [...this.#statements.keys()].filter((name) => name)
    const closes = names.map((name) => message('C', Buffer.from('S'), text(name)))
    for (const last of [...rollback, Buffer.concat([...closes, message('S')])]) await this.#session.send(last)
    this.#status = 'I'
    this.#releaseTurn()
  }
}
