// The messages of PostgreSQL's protocol, version 3: a type, a length, a body.

const SSL = 80877103
const GSS_ENCRYPTION = 80877104
const CANCEL = 80877102

// The messages of a connection: first `{ type: 'startup' }`, then those with a type and a body.
export async function* read(socket) {
  let buffer = Buffer.alloc(0)
  let started = false
  for await (const chunk of socket) {
    buffer = Buffer.concat([buffer, chunk])
    for (;;) {
      // The first messages have no type.
      const head = started ? 1 : 0
      if (buffer.length < head + 4) break
      const length = head + buffer.readInt32BE(head)
      if (buffer.length < length) break
      const type = started ? String.fromCharCode(buffer[0]) : 'startup'
      const body = buffer.subarray(head + 4, length)
      buffer = buffer.subarray(length)
      if (started) {
        yield { type, body }
        continue
      }
      const code = body.readInt32BE(0)
      if (code === CANCEL) return
      if (code === SSL || code === GSS_ENCRYPTION) {
        socket.write('N')
      } else {
        started = true
        yield { type }
      }
    }
  }
}

export function message(type, ...parts) {
  const body = Buffer.concat(parts)
  const head = Buffer.alloc(5)
  head.write(type)
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

export const text = (value) => Buffer.from(`${value}\0`)

// The text at the start of a body, and what follows it.
export function splitText(body) {
  const end = body.indexOf(0)
  return [body.toString('utf8', 0, end), body.subarray(end + 1)]
}

export const ready = (status) => message('Z', Buffer.from(status))

export function greeting() {
  const parameters = {
    server_version: '17.5', server_encoding: 'UTF8', client_encoding: 'UTF8', DateStyle: 'ISO, MDY',
    integer_datetimes: 'on', standard_conforming_strings: 'on', TimeZone: 'GMT',
  }
  const statuses = Object.entries(parameters).map(([name, value]) => message('S', text(name), text(value)))
  return Buffer.concat([
    message('R', Buffer.alloc(4)), ...statuses, message('K', Buffer.alloc(8)), ready('I'),
  ])
}

export function failure(error) {
  const fields = {
    S: 'ERROR', V: 'ERROR', C: error.code ?? 'XX000', M: error.message, D: error.detail, H: error.hint,
    W: error.where, s: error.schema, t: error.table, c: error.column, n: error.constraint,
  }
  const given = Object.entries(fields).filter(([, value]) => value)
  const parts = given.map(([name, value]) => Buffer.concat([Buffer.from(name), text(value)]))
  return message('E', ...parts, Buffer.alloc(1))
}

// The transaction's status after the last ReadyForQuery of an answer: idle, in one, or in a failed one.
export function statusOf(answer) {
  let status
  for (let at = 0; at + 5 <= answer.length; at += 1 + answer.readInt32BE(at + 1)) {
    if (answer[at] === 90) status = String.fromCharCode(answer[at + 5])
  }
  return status
}
