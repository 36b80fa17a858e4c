import { generateKeyPairSync, hash } from 'node:crypto'
import { signGateRequest } from '@holdfast/verify/gate'
import { generateKeyPair } from 'jose'
import { makeProof } from '../../src/doctor/proof.ts'
import {
  type Answer,
  type RawRequest,
  sendBytes,
  sendRequest,
} from '../../test/support/raw-request.ts'
import { found, type Part } from './gate-fixtures.ts'

/** A thief reads every byte between the gate and the applications, and reaches these directly. */
export async function attackConnection({ fixtures, runner, page }: Part): Promise<void> {
  await attackOldApplication({ fixtures, runner, page })
  await attackSignedRequests({ fixtures, runner, page })
  await attackForwardedTokens({ fixtures, runner, page })
}

async function attackOldApplication({ fixtures, runner, page }: Part): Promise<void> {
  const { origins, taps, applicationPorts, email } = fixtures
  runner.section('Between the gate and the old application, a thief reads and writes')
  await runner.thief('search requests for tokens and cookies of the gate', async () => {
    await page.goto(`${origins.notes}/notes`)
    const request = taps.notes.last('GET /notes ')
    const isThere = request === '' || /^(?:authorization|dpop|cookie):/im.test(request)
    return found(isThere, isThere ? 'credentials' : 'nothing found')
  })
  await runner.thief(
    'call it from the same machine, past the gate',
    () =>
      directly(applicationPorts.notes, {
        target: '/notes',
        headers: [`X-Holdfast-Email: ${email}`],
      }),
    'accept',
  )
}

/** The application checks the gate's signature over method, URL, body and identity. */
async function attackSignedRequests({ fixtures, runner, page }: Part): Promise<void> {
  const { origins, taps, applicationPorts } = fixtures
  const { thief } = runner
  runner.section('Between the gate and an application that checks its signature')
  const body = '{"berth":7}'
  const send = () =>
    page.evaluate(
      async ([to, content]) => {
        const headers = { 'content-type': 'application/json' }
        return (await fetch(to as string, { method: 'POST', headers, body: content as string }))
          .status
      },
      ['/orders', body],
    )
  await page.goto(origins.orders)
  await runner.owner('a page of the application sends an order', 'accept', async () => {
    return new Response(null, { status: await send() })
  })
  const sniffed = taps.orders.last('POST /orders ')
  const replay = (change: (request: string) => string = (same) => same) =>
    replayed(applicationPorts.orders, change(sniffed))
  await thief('the same request again', () => replay())
  await thief('the signature for another method', () =>
    replay((text) => text.replace(/^POST/, 'PUT')),
  )
  await thief('the signature for another path', () =>
    replay((text) => text.replace('/orders ', '/orders/8 ')),
  )
  const other = body.replace('7', '9')
  await thief('the signature for another body', () => replay((text) => text.replace(body, other)))
  await thief('another body, and its digest', () =>
    replay((text) =>
      text
        .replace(body, other)
        .replace(
          /^Content-Digest: .*$/m,
          `Content-Digest: sha-256=:${hash('sha256', other, 'base64')}:`,
        ),
    ),
  )
  const identity = { claims: { sub: 'owner' }, methods: ['dbsc'] } as const
  await thief('another identity under the same signature', () =>
    replay((text) =>
      text.replace(
        /^Holdfast-Identity: .*$/m,
        `Holdfast-Identity: ${base64url({ aud: origins.orders, ...identity })}`,
      ),
    ),
  )
  await thief("an identity that is signed by the thief's key", () => {
    const { privateKey } = generateKeyPairSync('ed25519')
    const { orders: audience } = origins
    const signed = signGateRequest(
      { method: 'GET', targetUri: `${audience}/orders`, headers: [] },
      {
        ...{ key: privateKey, keyId: 'thief', audience, identity: identity as never },
        ...{ digest: hash('sha256', '', 'buffer'), now: Date.now() / 1000, lifetime: 30 },
      },
    )
    const headers = signed.flatMap((name, at) =>
      at % 2 === 0 ? [`${name}: ${signed[at + 1]}`] : [],
    )
    return directly(applicationPorts.orders, { target: '/orders', headers })
  })
  taps.orders.hold('POST /orders ')
  await send()
  const kept = taps.orders.last('POST /orders ')
  await thief(
    'a request held back, delivered within 10 seconds',
    () => replayed(applicationPorts.orders, kept),
    'accept',
  )
  await thief('that request a second time', () => replayed(applicationPorts.orders, kept))
}

/** The gate sends the session's access token, with a proof of its own for each request. */
async function attackForwardedTokens({ fixtures, runner, page }: Part): Promise<void> {
  const { origins, taps, applicationPorts, gateFetch } = fixtures
  const { owner, thief } = runner
  runner.section('Between the gate and an application that gets the access token')
  await owner('sign in; the application checks the token itself', 'accept', async () => {
    await page.goto(origins.reports)
    await page.getByRole('button', { name: 'Allow' }).click()
    await page.waitForURL(`${origins.reports}/**`)
    const told = JSON.parse(await page.locator('body').innerText()) as { proven?: string[] }
    return found(told.proven?.join() === 'dpop', `proven: ${told.proven}`)
  })
  const sniffed = taps.reports.last('GET / ')
  const [, accessToken = ''] = /^Authorization: DPoP (\S+)/im.exec(sniffed) ?? []
  const url = `http://127.0.0.1:${taps.reports.port}/`
  const key = await generateKeyPair('ES256', { extractable: true })
  const send = (...headers: string[]) =>
    directly(applicationPorts.reports, { target: '/', headers })
  await thief('the token alone, as Bearer', () => send(`Authorization: Bearer ${accessToken}`))
  await thief("the token, and a proof by the thief's key", async () => {
    const proof = await makeProof(key, { method: 'GET', url, accessToken })
    return send(`Authorization: DPoP ${accessToken}`, `DPoP: ${proof}`)
  })
  await thief('the whole request again', () => replayed(applicationPorts.reports, sniffed))
  await thief('the token at another application of the gate', () =>
    gateFetch(`${origins.orders}/orders`, { headers: { authorization: `Bearer ${accessToken}` } }),
  )
}

const base64url = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** Sends bytes that were read on their way to an application, without the gate. */
async function replayed(port: number, request: string): Promise<Response> {
  // For an answer without waiting for the next request; the signature does not cover it.
  const closing = request.replace('\r\n', '\r\nConnection: close\r\n')
  return asResponse(await sendBytes(`http://127.0.0.1:${port}`, Buffer.from(closing, 'latin1')))
}

/** Sends a request to an application, past the gate. */
export async function directly(port: number, request: RawRequest): Promise<Response> {
  return asResponse(await sendRequest(`http://127.0.0.1:${port}`, request))
}

function asResponse({ status, headers, text }: Answer): Response {
  return new Response(status === 204 || status === 304 ? null : text, { status, headers })
}
