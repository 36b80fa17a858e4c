import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

/*
 * The first flight of TLS 1.2 by hand (RFC 5246 section 7.4.1), because no TLS library sends the
 * mistakes that a server must survive. Both hellos and the alerts before a cipher is in use are
 * plain text, so every byte of an answer can be compared.
 */

const uint8 = (value: number) => Buffer.of(value)
const uint16 = (value: number) => Buffer.of(value >> 8, value & 0xff)
const vector8 = (bytes: Buffer) => Buffer.concat([uint8(bytes.length), bytes])
const vector16 = (bytes: Buffer) => Buffer.concat([uint16(bytes.length), bytes])

const handshakeRecord = 22
const alertRecord = 21
const ecdheEcdsaAes128Gcm = 0xc02b
const renegotiationInfoScsv = 0x00ff

export const extension = {
  tokenBinding: 24,
  extendedMasterSecret: 23,
  renegotiationInfo: 0xff01,
} as const

export interface HelloOptions {
  /** The extension_data of token_binding, or none to leave it out. */
  readonly offer?: Buffer | undefined
  readonly extendedMasterSecret?: boolean
  readonly renegotiationInfo?: 'extension' | 'scsv' | 'none'
}

export function clientHello(options: HelloOptions): Buffer {
  const { offer, extendedMasterSecret = true, renegotiationInfo = 'extension' } = options
  const ciphers = [uint16(ecdheEcdsaAes128Gcm)]
  if (renegotiationInfo === 'scsv') ciphers.push(uint16(renegotiationInfoScsv))

  const extensions: [type: number, body: Buffer][] = [
    [10, vector16(Buffer.from('001d0017', 'hex'))],
    [11, vector8(Buffer.of(0))],
    [13, vector16(Buffer.from('0403', 'hex'))],
  ]
  if (extendedMasterSecret) extensions.push([extension.extendedMasterSecret, Buffer.alloc(0)])
  if (renegotiationInfo === 'extension') {
    extensions.push([extension.renegotiationInfo, Buffer.of(0)])
  }
  if (offer) extensions.push([extension.tokenBinding, offer])

  return handshake(
    1,
    uint16(0x0303),
    randomBytes(32),
    vector8(Buffer.alloc(0)),
    vector16(Buffer.concat(ciphers)),
    vector8(Buffer.of(0)),
    encodeExtensions(extensions),
  )
}

/** A server's answer with these extensions; enough of one for a client to judge it. */
export function serverHello(extensions: readonly [type: number, body: Buffer][]): Buffer {
  return handshake(
    2,
    uint16(0x0303),
    randomBytes(32),
    vector8(Buffer.alloc(0)),
    uint16(ecdheEcdsaAes128Gcm),
    uint8(0),
    encodeExtensions(extensions),
  )
}

function encodeExtensions(extensions: readonly [type: number, body: Buffer][]): Buffer {
  return vector16(
    Buffer.concat(extensions.map(([type, body]) => Buffer.concat([uint16(type), vector16(body)]))),
  )
}

function handshake(type: number, ...fields: Buffer[]): Buffer {
  const body = Buffer.concat(fields)
  const message = Buffer.concat([uint8(type), uint8(0), vector16(body)])
  return Buffer.concat([uint8(handshakeRecord), uint16(0x0303), vector16(message)])
}

/** What came back: the extensions of a ServerHello in hexadecimal, or a fatal alert's number. */
export type FirstAnswer =
  | { readonly extensions: ReadonlyMap<number, string> }
  | { readonly alert: number }

export async function exchangeHello(port: number, options: HelloOptions): Promise<FirstAnswer> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    socket.write(clientHello(options))
    return await readFirstAnswer(socket)
  } finally {
    socket.destroy()
  }
}

export async function readFirstAnswer(socket: Socket): Promise<FirstAnswer> {
  let received = Buffer.alloc(0)
  for await (const chunk of socket) {
    received = Buffer.concat([received, chunk])
    const answer = parseFirstAnswer(received)
    if (answer) return answer
  }
  throw new Error('the connection ended without an answer')
}

function parseFirstAnswer(bytes: Buffer): FirstAnswer | undefined {
  if (bytes.length < 5 || bytes.length < 5 + bytes.readUInt16BE(3)) return undefined
  const record = bytes.subarray(5, 5 + bytes.readUInt16BE(3))
  if (bytes[0] === alertRecord) return { alert: record.readUInt8(1) }

  // Handshake header (4), version (2), random (32), session id, cipher (2), compression (1).
  let at = 4 + 2 + 32
  at += 1 + record.readUInt8(at) + 2 + 1
  const end = at + 2 + record.readUInt16BE(at)
  at += 2
  const extensions = new Map<number, string>()
  while (at < end) {
    const type = record.readUInt16BE(at)
    const length = record.readUInt16BE(at + 2)
    extensions.set(type, record.toString('hex', at + 4, at + 4 + length))
    at += 4 + length
  }
  return { extensions }
}
