import { X509Certificate } from 'node:crypto'
import type { Socket } from 'node:net'
import test from 'ava'
import type { Config } from '../../packages/gate/config.ts'
import { type Asked, createEdge } from '../../packages/gate/edge.ts'
import { Refusal } from '../../packages/gate/refusal.ts'
import { selfSigned } from '../support/certificates.ts'

const edge = createEdge({
  trustedProxies: ['10.0.0.2'],
  forwarded: { tokenBinding: false },
  tls: undefined,
  limits: { headerBytes: 100 },
} as unknown as Config)

const asked: Asked = {
  method: 'GET',
  url: '/a?b',
  hosts: ['App.example'],
  fields: ['Host', 'App.example', 'Accept', '*/*'],
  socket: { remoteAddress: '192.0.2.1' } as Socket,
  protocol: '2',
}

function codeOf(changes: Partial<Asked>): string | undefined {
  try {
    edge({ ...asked, ...changes }, 'id')
    return undefined
  } catch (error) {
    if (error instanceof Refusal) return error.code
    throw error
  }
}

test('reads a request', (t) => {
  const { host, address, target } = edge(asked, 'id')
  t.deepEqual([host, address, target.path, target.query], ['app.example', '192.0.2.1', '/a', '?b'])
})

const refused: Record<string, [Partial<Asked>, string]> = {
  'with two hosts': [{ hosts: ['app.example', 'other.example'] }, 'host'],
  'with one host twice': [{ hosts: ['app.example', 'app.example'] }, 'host'],
  'without a host': [{ hosts: [] }, 'host'],
  'whose fields are too long together': [
    { fields: ['a', 'x'.repeat(50), 'b', 'x'.repeat(49)] },
    'too_many_fields',
  ],
  'with too many fields': [{ fields: Array<string>(402).fill('') }, 'too_many_fields'],
}
for (const [what, [changes, code]] of Object.entries(refused)) {
  test(`refuses a request ${what}`, (t) => {
    t.is(codeOf({}), undefined)
    t.is(codeOf(changes), code)
  })
}

test('does not take the certificate of a trusted proxy for that of a client', async (t) => {
  const certificate = new X509Certificate((await selfSigned()).cert)
  const socketOf = (remoteAddress: string) =>
    ({ remoteAddress, getPeerX509Certificate: () => certificate }) as unknown as Socket
  t.truthy(edge({ ...asked, socket: socketOf('192.0.2.1') }, 'id').certificate)
  t.is(edge({ ...asked, socket: socketOf('10.0.0.2') }, 'id').certificate, undefined)
})
