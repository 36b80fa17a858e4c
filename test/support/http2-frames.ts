import { once } from 'node:events'
import { connect, type TLSSocket } from 'node:tls'

export const frameTypes = {
  ...{ data: 0, headers: 1, priority: 2, reset: 3, settings: 4, push: 5, ping: 6 },
  ...{ goaway: 7, windowUpdate: 8, continuation: 9 },
} as const

/** What a frame begins with (RFC 9113 section 4.1), and what is in it. */
export interface Frame {
  readonly type: number
  readonly flags?: number
  readonly stream?: number
  readonly payload?: Buffer
}

export const endStream = 1
export const endHeaders = 4

/** How a request ended that was sent frame by frame. */
export type Outcome = Readonly<{ status: number }> | Readonly<{ reset: number }> | 'closed'

/** One frame, as bytes. */
export function frame({ type, flags = 0, stream = 0, payload = Buffer.alloc(0) }: Frame): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

export const uint32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** Fields as they are, each a literal that is not indexed (RFC 7541 section 6.2.2). */
export function headerBlock(fields: readonly (readonly [string, string])[]): Buffer {
  const text = (value: string) =>
    Buffer.concat([length(value.length), Buffer.from(value, 'latin1')])
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.of(0), text(name), text(value)]))
}

/** An integer with a prefix of seven bits (RFC 7541 section 5.1). */
function length(value: number): Buffer {
  if (value < 127) return Buffer.of(value)
  const bytes = [127]
  let rest = value - 127
  for (; rest >= 128; rest >>= 7) bytes.push((rest & 127) | 128)
  return Buffer.of(...bytes, rest)
}

/** A connection whose frames nothing checks before they are sent. */
export interface FrameClient extends Disposable {
  readonly socket: TLSSocket
  readonly frames: readonly Required<Frame>[]
  send(...frames: readonly Frame[]): void
  /** Resolves to the first frame for which this is true; to `undefined` where the connection ends. */
  next(isMeant: (frame: Required<Frame>) => boolean): Promise<Required<Frame> | undefined>
  /** How stream 1 or its connection ends. */
  outcome(stream?: number): Promise<Outcome>
}

const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'

export async function connectFrames(
  port: number,
  { settings = Buffer.alloc(0), acknowledges = true } = {},
): Promise<FrameClient> {
  const socket = connect({
    ...{ port, host: '127.0.0.1', servername: 'localhost', rejectUnauthorized: false },
    ALPNProtocols: ['h2'],
  })
  socket.on('error', () => {})
  await once(socket, 'secureConnect')
  const frames: Required<Frame>[] = []
  let waiting: (() => void)[] = []
  const wake = () => {
    for (const each of waiting.splice(0)) each()
  }
  let rest = Buffer.alloc(0)
  socket.on('data', (chunk) => {
    rest = Buffer.concat([rest, chunk])
    while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
      const end = 9 + rest.readUIntBE(0, 3)
      const received = {
        ...{ type: rest.readUInt8(3), flags: rest.readUInt8(4), stream: rest.readUInt32BE(5) },
        payload: Buffer.from(rest.subarray(9, end)),
      }
      rest = rest.subarray(end)
      frames.push(received)
      const isSettings = received.type === frameTypes.settings && received.flags === 0
      if (isSettings && acknowledges) client.send({ type: frameTypes.settings, flags: 1 })
    }
    wake()
  })
  socket.once('close', wake)
  const client: FrameClient = {
    socket,
    frames,
    send(...sent) {
      if (!socket.destroyed) socket.write(Buffer.concat(sent.map(frame)))
    },
    async next(isMeant) {
      for (;;) {
        const found = frames.find(isMeant)
        if (found !== undefined || socket.destroyed) return found
        const { promise, resolve } = Promise.withResolvers<void>()
        waiting = [...waiting, resolve]
        await promise
      }
    },
    async outcome(stream = 1) {
      const end = await this.next(
        (each) =>
          (each.stream === stream && /^[13]$/.test(`${each.type}`)) ||
          (each.type === frameTypes.goaway && each.payload.readUInt32BE(4) !== 0),
      )
      if (end?.type === frameTypes.headers) return { status: statusOf(end.payload) }
      if (end?.type === frameTypes.reset) return { reset: end.payload.readUInt32BE(0) }
      return 'closed'
    },
    [Symbol.dispose]: () => socket.destroy(),
  }
  socket.write(preface)
  client.send({ type: frameTypes.settings, payload: settings })
  return client
}

const indexed: Readonly<Record<number, number>> = {
  ...{ 136: 200, 137: 204, 138: 206, 139: 304, 140: 400, 141: 404, 142: 500 },
}

/** The status of a response, which its field block begins with, after a change of the table's size. */
function statusOf(block: Buffer): number {
  const [first = 0, size = 0] = block
  if ((first & 0xe0) === 0x20) return statusOf(block.subarray(1))
  const known = indexed[first]
  if (known !== undefined) return known
  const value = block.subarray(2, 2 + (size & 127))
  return Number(size & 128 ? digits(value) : value.toString())
}

/** Digits in Huffman code (RFC 7541 appendix B): 0 to 2 have five bits and the others six. */
function digits(bytes: Buffer): string {
  let bits = [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('')
  let found = ''
  while (bits.length >= 5 && !/^1+$/.test(bits)) {
    const short = Number.parseInt(bits.slice(0, 5), 2)
    const isShort = short <= 2
    found += isShort ? short : Number.parseInt(bits.slice(0, 6), 2) - 0x16
    bits = bits.slice(isShort ? 5 : 6)
  }
  return found
}
